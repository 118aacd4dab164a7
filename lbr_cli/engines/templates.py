"""Split the template of a prompt into the token ids that all prompts share, and the text between them.

A template is split into three parts: `head` ends with the last special token before the texts, `tail` begins with the
first special token after them, and the text between the two is tokenized without special tokens, as one string if the
request has no parts. A chat template for pairs may have special tokens between the two texts as well. Tokenizers never
merge across a special token, so the ids of the parts, joined, are those of the whole prompt; `Templates` verifies that
on samples when it splits a template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import jinja2

from lbr_cli.core import Chat, PairChat, Prompted, RawTemplate
from lbr_cli.errors import MissingError, first_line

PLACEHOLDER, SECOND_PLACEHOLDER = "\ufdd0", "\ufdd1"  # noncharacters: no template contains them
SAMPLES = ("a b", " \n日本é\n\n1 ", "x")
# raised by templates, and by the Python functions that their expressions call
PYTHON_ERRORS = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError)
TEMPLATE_ERRORS = (jinja2.TemplateError, *PYTHON_ERRORS)
# patterns of a chat template that reads contents as lists of parts, by the rule of sentence-transformers 6.2
STRUCTURED = ("content[0]", ".type", "'type'", '"type"', "item.type", "message.content[")

Part = str | Sequence[int]  # of a prompt: a text, or token ids


@dataclass(frozen=True, slots=True)
class _Around:
    """A template around all texts of a request. If `strips`, it strips white space at both ends of the joined texts.

    If `cuts_tokens`, a document at the end of the text is truncated to its first tokens, which may split a character.
    """

    head: list[int]
    before: str
    after: str
    tail: list[int]
    strips: bool
    cuts_tokens: bool
    strips_document: bool = False

    def parts(self, request: Prompted, document: str) -> tuple[list[Part], str, int, list[Part]]:
        """Return the parts before the document's part, that part, the document's offset in it, and the parts after."""
        before = [self.before + request.before[0], *request.before[1:]]
        after = [*request.after[:-1], request.after[-1] + self.after]
        if self.strips:
            stripped = (request.before[0] + document + request.after[0]).strip()
            start = len(self.before) + len(request.before[0].lstrip())
            return [], self.before + stripped + self.after, start, []
        return [*before[:-1]], before[-1] + document + after[0], len(before[-1]), [*after[1:]]


@dataclass(frozen=True, slots=True)
class _AroundPair:
    """A template around a query and a document. `between` are a text, the ids of special tokens, and a text."""

    head: list[int]
    before: str
    between: tuple[str, list[int], str]
    after: str
    tail: list[int]
    document_first: bool
    strips_query: bool
    strips_document: bool
    cuts_tokens: bool = True

    def parts(self, request: Prompted, document: str) -> tuple[list[Part], str, int, list[Part]]:
        """Return the same as `_Around.parts`."""
        query = request.before[0].strip() if self.strips_query else request.before[0]
        first, second = (document, query) if self.document_first else (query, document)
        left, special, right = self.between
        opening, closing = self.before + first + left, right + second + self.after
        if not special:
            start = len(self.before if self.document_first else opening)
            return [], opening + closing, start, []
        if self.document_first:
            return [], opening, len(self.before), [special, closing]
        return [opening, special], closing, len(right), []


SplitTemplate = _Around | _AroundPair


class Templates:
    """Splits the templates of requests: raw templates, and the chat template of a model's tokenizer."""

    def __init__(self, tokenizer: Any, model: str) -> None:
        self._tokenizer = tokenizer
        self._model = model
        self._special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}

    def split(self, template: Chat | RawTemplate | PairChat) -> SplitTemplate:
        """Return the parts of a template. MissingError if they do not give the prompts of the template."""
        if isinstance(template, PairChat):
            return self._split_pair(template)
        rendered = self._render(template, f" {PLACEHOLDER} ")
        strips = f" {PLACEHOLDER} " not in rendered
        before, _, after = rendered.partition(PLACEHOLDER if strips else f" {PLACEHOLDER} ")
        opening, closing = self._added(template)
        head, before = self._after_special(before)
        after, tail = self._before_special(after)
        split = _Around(opening + head, before, after, tail + closing, strips, isinstance(template, RawTemplate))
        for sample in SAMPLES:
            request = Prompted(template, (sample,), sample, ("",))
            whole = opening + self._ids(self._render(template, sample + sample), plain=False) + closing
            self._check(split, request, whole)
        return split

    def _split_pair(self, template: PairChat) -> SplitTemplate:
        query, document = PLACEHOLDER, SECOND_PLACEHOLDER
        rendered = self._render_pair(template, f" {query} ", f" {document} ")
        for role, placeholder in ((template.query_role, query), (template.document_role, document)):
            if rendered.count(placeholder) != 1:
                problem = f"its chat template contains the message of the role {role!r}"
                times = f"{rendered.count(placeholder)} times"
                raise MissingError(f"{self._model}: {problem} {times}, so it cannot carry a query and a document")
        strips_query, strips_document = (f" {placeholder} " not in rendered for placeholder in (query, document))
        query, document = (query if strips_query else f" {query} "), (document if strips_document else f" {document} ")
        document_first = rendered.index(document) < rendered.index(query)
        first, second = (document, query) if document_first else (query, document)
        before, _, rest = rendered.partition(first)
        between, _, after = rest.partition(second)
        head, before = self._after_special(before)
        after, tail = self._before_special(after)
        left, special = self._before_special(between)
        middle: tuple[str, list[int], str] = (left, [], "")
        if special:
            inner, right = self._after_special(between[len(left) :])
            middle = (left, inner, right)
        split = _AroundPair(head, before, middle, after, tail, document_first, strips_query, strips_document)
        for query_text, text in product(SAMPLES, SAMPLES):
            request = Prompted(template, (query_text,), text.strip() if strips_document else text, ("",))
            self._check(split, request, self._ids(self._render_pair(template, query_text, text), plain=False))
        return split

    def _check(self, split: SplitTemplate, request: Prompted, whole: list[int]) -> None:
        """Raise MissingError if the parts of a template do not give the ids of the whole prompt."""
        before, text, _, after = split.parts(request, request.document)
        parts = [part if isinstance(part, list) else self._ids(str(part)) for part in (*before, text, *after)]
        if [*split.head, *(i for part in parts for i in part), *split.tail] != whole:
            problem = "its chat template or tokenizer changes the texts of a prompt"
            raise MissingError(f"{self._model}: {problem}, so lbr cannot build its prompts exactly")

    def _ids(self, text: str, *, plain: bool = True) -> list[int]:
        return encode(self._tokenizer, text, plain=plain)[0]

    def _after_special(self, text: str) -> tuple[list[int], str]:
        """Return the ids up to the last special token of a text, and the text after it."""
        ids, offsets = encode(self._tokenizer, text, plain=False)
        last = max((index for index, i in enumerate(ids) if i in self._special), default=-1)
        return ids[: last + 1], text[offsets[last][1] if last >= 0 else 0 :]

    def _before_special(self, text: str) -> tuple[str, list[int]]:
        """Return the text before the first special token, and the ids from that token on."""
        ids, offsets = encode(self._tokenizer, text, plain=False)
        first = min((index for index, i in enumerate(ids) if i in self._special), default=len(ids))
        return text[: offsets[first][0] if first < len(ids) else len(text)], ids[first:]

    def _render(self, template: Chat | RawTemplate, user: str) -> str:
        """Return the template as text, with `user` instead of the texts."""
        if isinstance(template, RawTemplate):
            return template.before + user + template.after
        messages = [{"role": "system", "content": template.system}] if template.system else []
        messages.append({"role": "user", "content": user})
        description = "a system message" if template.system else "a user message alone"
        return self._apply(messages, description, add_generation_prompt=True) + template.assistant_prefix

    def _render_pair(self, template: PairChat, query: str, document: str) -> str:
        """Return the template as text, with a query and a document."""
        structured = template.structured
        if structured is None:
            structured = any(pattern in str(self._tokenizer.chat_template) for pattern in STRUCTURED)
        texts = [("system", template.system)] if template.system else []
        texts += [(template.query_role, query), (template.document_role, document)]
        messages = [
            {"role": role, "content": [{"type": "text", "text": text}] if structured else text} for role, text in texts
        ]
        description = f"messages of the roles {template.query_role} and {template.document_role}"
        return self._apply(messages, description, **dict(template.variables))

    def _apply(self, messages: list[dict[str, Any]], description: str, **variables: Any) -> str:
        """Return messages as the chat template renders them. MissingError if it fails on messages so described."""
        chat_template = self._tokenizer.chat_template
        if not chat_template:
            raise MissingError(f"{self._model}: its tokenizer has no chat template, and this family needs one")
        if isinstance(chat_template, dict) and "default" not in chat_template:
            named = ", ".join(map(repr, sorted(chat_template)))
            raise MissingError(f"{self._model}: its chat templates are {named}, and none of them is the default")
        try:
            rendered: str = self._tokenizer.apply_chat_template(messages, tokenize=False, **variables)
        except jinja2.TemplateSyntaxError as error:
            raise MissingError(f"{self._model}: invalid chat template: line {error.lineno}: {error.message}") from error
        except TEMPLATE_ERRORS as error:
            problem = f"{type(error).__name__}: {first_line(error)}"
            raise MissingError(f"{self._model}: its chat template fails on {description}: {problem}") from error
        return rendered

    def _added(self, template: Chat | RawTemplate) -> tuple[list[int], list[int]]:
        """Return the special tokens that the tokenizer adds before and after a raw template."""
        adds = template.special_tokens if isinstance(template, RawTemplate) else "none"
        if adds == "bos":
            bos = self._tokenizer.bos_token_id
            return [bos] if bos is not None and bos != self._tokenizer.pad_token_id else [], []
        if adds == "none":
            return [], []
        encoded = self._tokenizer("x", return_special_tokens_mask=True)
        ids, mask = encoded["input_ids"], encoded["special_tokens_mask"]
        ordinary = [index for index, special in enumerate(mask) if not special] or [len(ids), len(ids) - 1]
        return ids[: ordinary[0]], ids[ordinary[-1] + 1 :]


def encode(tokenizer: Any, text: str, *, plain: bool = True) -> tuple[list[int], list[tuple[int, int]]]:
    """Return token ids and their character offsets; `plain` reads special tokens as ordinary text."""
    options = {"add_special_tokens": False, "return_offsets_mapping": True, "verbose": False}
    encoded = tokenizer(text, split_special_tokens=plain, **options)
    return encoded["input_ids"], encoded["offset_mapping"]
