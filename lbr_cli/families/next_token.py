"""A model of the user's own: any prompt, and two labels of which one says relevant.

    score = ln p(relevant label) - ln p(other label)

Scale: log-odds, unbounded; `probability` is the softmax over the two. The prompt comes from a file in TOML. A model
with a chat template is asked with `user` and, if need be, `system` and `assistant`, the beginning of its answer; one
without a template with `text`, around which the tokenizer puts its own special tokens:

    text = "query: {query} passage: {title} {document}\\nIs the passage relevant to the query?"

`{query}` and `{document}` stand once in `user` or `text`. Where `{title}` stands too, `{document}` is the text alone,
else the title, one space and the text. Braces around any other word are an error, all others are left as they are.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from lbr_cli.core import Answer, Chat, Document, NextToken, RawTemplate, Request, Score
from lbr_cli.errors import InputError
from lbr_cli.families.odds import log_odds

PLACE = re.compile(r"\{(query|document|title)\}")
WORD = re.compile(r"\{(\w+)\}")
KEYS = ("system", "user", "assistant", "text")


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt with places for query, document and title."""

    template: Chat | RawTemplate
    text: str

    @classmethod
    def parse(cls, toml: str, file: str) -> Template:
        """The template that a prompt file holds. Raises InputError with `file` where it is not one."""
        try:
            table = tomllib.loads(toml)
        except tomllib.TOMLDecodeError as error:
            line = re.search(r"at line (\d+)", str(error))  # or "at end of document"
            reason = str(error).split(" (at ")[0]
            raise InputError(f"no TOML: {reason}", file, int(line[1]) if line else toml.count("\n") + 1) from error
        for key, value in table.items():
            if key not in KEYS:
                raise InputError(f"a prompt has no {key!r}", file, hint=f"its keys are: {', '.join(KEYS)}")
            if not isinstance(value, str):
                raise InputError(f"{key!r} is no string", file)
        if ("user" in table) == ("text" in table) or ("text" in table and len(table) > 1):
            raise InputError("a prompt needs either user, with system and assistant if need be, or text alone", file)
        text = table.get("user", table.get("text", ""))
        places = PLACE.findall(text)
        for place, most in (("query", 1), ("document", 1), ("title", 0)):
            if not most <= places.count(place) <= 1:
                found = f"stands {places.count(place)} times" if place in places else "is missing"
                raise InputError(f"{{{place}}} {found} in the prompt", file)
        unknown = [word for word in WORD.findall(text) if word not in ("query", "document", "title")]
        if unknown:
            raise InputError(f"{{{unknown[0]}}} is no place; {{query}}, {{document}} and {{title}} are", file)
        if WORD.search(table.get("system", "") + table.get("assistant", "")):
            raise InputError("{query}, {document} and {title} have their place in user", file)
        if "text" in table:
            return cls(RawTemplate(special_tokens="all"), text)
        return cls(Chat(table.get("system", ""), table.get("assistant", "")), text)

    def parts(self, query: str, document: Document) -> tuple[str, str, str]:
        """What comes before the document, the document, which begins with a title before it, and what comes after."""
        titled = "{title}" in self.text
        values = {"query": query, "title": document.title, "document": document.text if titled else document.contents}
        start, end = self.text.index("{document}"), self.text.index("{document}") + len("{document}")
        if titled:
            start = min(start, self.text.index("{title}"))
        before, between, after = (
            PLACE.sub(lambda place: values[place[1]], part)
            for part in (self.text[:start], self.text[start:end], self.text[end:])
        )
        return before, between, after


@dataclass(frozen=True, slots=True)
class UserPrompt:
    """`labels` are the token for relevant and the one for not."""

    name: ClassVar[str] = "next-token"
    scale: ClassVar[str] = "log-odds of the first label against the second"
    request_type: ClassVar[type[Request]] = NextToken
    prompt: Template | None = None
    labels: tuple[str, str] | None = None

    @property
    def shares(self) -> Literal["query", "document"]:
        """Whichever of the two the prompt names first."""
        text = self._chosen()[0].text
        return "query" if text.index("{query}") < text.index("{document}") else "document"

    def requests(self, query: str, document: Document) -> tuple[Request, ...]:
        template, labels = self._chosen()
        before, between, after = template.parts(query, document)
        return (NextToken(template.template, (before,), between, (after,), labels),)

    def score(self, answers: Sequence[Answer]) -> Score:
        return log_odds(answers[0], self._chosen()[1])

    def _chosen(self) -> tuple[Template, tuple[str, str]]:
        if self.prompt is None or self.labels is None:
            raise ValueError("the family next-token needs a prompt and labels")
        return self.prompt, self.labels
