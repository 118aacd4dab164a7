"""Any model with a prompt from the user, and two labels, for relevant and not relevant.

    score = ln p(relevant label) - ln p(other label)

Scale: log-odds, unbounded; `probability` is the softmax over the two. The prompt is a TOML file. A model with a chat
template needs `user`, and optionally `system` and `assistant`, the beginning of the answer; a model without one needs
`text`, to which the tokenizer adds its special tokens:

    text = "query: {query} passage: {title} {document}\\nIs the passage relevant to the query?"

`text` may have special tokens before the first placeholder and after the last one.

`{query}` and `{document}` occur once in `user` or `text`. If `{title}` occurs, too, `{document}` is the text alone,
otherwise title, one space and text. Braces around any other word are an error; all other braces are kept.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from lbr_cli.core import Answer, Chat, Document, NextToken, RawTemplate, Request, Score
from lbr_cli.errors import InputError
from lbr_cli.families.odds import log_odds, sigmoid

PLACEHOLDER = re.compile(r"\{(query|document|title)\}")
WORD = re.compile(r"\{(\w+)\}")
KEYS = ("system", "user", "assistant", "text")


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt with placeholders for query, document and title."""

    template: Chat | RawTemplate
    text: str

    @classmethod
    def parse(cls, toml: str, file: str) -> Template:
        """Parse the contents of a prompt file. Raises InputError with the name `file` for an invalid one."""
        try:
            table = tomllib.loads(toml)
        except tomllib.TOMLDecodeError as error:
            line = re.search(r"at line (\d+)", str(error))  # or "at end of document"
            reason = str(error).split(" (at ")[0]
            raise InputError(f"invalid TOML: {reason}", file, int(line[1]) if line else toml.count("\n") + 1) from error
        for key, value in table.items():
            if key not in KEYS:
                raise InputError(f"unknown key {key!r}", file, hint=f"the keys of a prompt are: {', '.join(KEYS)}")
            if not isinstance(value, str):
                raise InputError(f"{key!r} is not a string", file)
        if ("user" in table) == ("text" in table) or ("text" in table and len(table) > 1):
            raise InputError("a prompt needs either user, optionally with system and assistant, or text alone", file)
        text = table.get("user", table.get("text", ""))
        words = WORD.findall(text)
        for word, least in (("query", 1), ("document", 1), ("title", 0)):
            if not least <= words.count(word) <= 1:
                problem = f"occurs {words.count(word)} times" if word in words else "is missing"
                raise InputError(f"{{{word}}} {problem} in the prompt", file)
        unknown = [word for word in words if word not in ("query", "document", "title")]
        if unknown:
            hint = "the placeholders are: {query}, {document}, {title}"
            raise InputError(f"unknown placeholder {{{unknown[0]}}}", file, hint=hint)
        if WORD.search(table.get("system", "") + table.get("assistant", "")):
            raise InputError("{query}, {document} and {title} are placeholders in user only", file)
        if "text" in table:
            spans = [match.span() for match in PLACEHOLDER.finditer(text)]
            start, end = spans[0][0], spans[-1][1]
            return cls(RawTemplate(text[:start], text[end:], "all"), text[start:end])
        return cls(Chat(table.get("system", ""), table.get("assistant", "")), text)

    @property
    def shares(self) -> Literal["query", "document"]:
        """The text that comes first in the prompt."""
        return "query" if self.text.index("{query}") < self.text.index("{document}") else "document"

    def parts(self, query: str, document: Document) -> tuple[str, str, str]:
        """Return the prompt before the document, the document, and the prompt after it.

        The document begins with the title if that precedes it.
        """
        has_title = "{title}" in self.text
        contents = document.text if has_title else document.contents
        values = {"query": query, "title": document.title, "document": contents}
        start = min(self.text.index(word) for word in ("{document}", "{title}") if word in self.text)
        end = self.text.index("{document}") + len("{document}")
        parts = (self.text[:start], self.text[start:end], self.text[end:])
        before, between, after = (PLACEHOLDER.sub(lambda match: values[match[1]], part) for part in parts)
        return before, between, after


@dataclass(frozen=True, slots=True)
class UserPrompt:
    """`labels` are the tokens for relevant and not relevant."""

    name: ClassVar[str] = "next-token"
    scale: ClassVar[str] = "log-odds of the first label against the second"
    request_type: ClassVar[type[Request]] = NextToken
    prompt: Template | None = None
    labels: tuple[str, str] | None = None

    @property
    def shares(self) -> Literal["query", "document"]:
        return self._chosen()[0].shares

    def requests(self, query: str, document: Document) -> tuple[Request, ...]:
        template, labels = self._chosen()
        before, between, after = template.parts(query, document)
        return (NextToken(template.template, (before,), between, (after,), labels),)

    def score(self, answers: Sequence[Answer]) -> Score:
        return log_odds(answers[0], self._chosen()[1])

    def probability(self, score: float) -> float | None:
        return sigmoid(score)

    def _chosen(self) -> tuple[Template, tuple[str, str]]:
        if self.prompt is None or self.labels is None:
            raise ValueError("the family next-token needs a prompt and labels")
        return self.prompt, self.labels
