"""`NextToken` requests -> token ids, exactly as the model's chat template, or its author's own code, makes them.

For a chat the ids are those of `apply_chat_template` on the whole conversation; for a raw template those of the whole
text, or of its parts if a request has several. There are two deviations: special tokens written out inside a query or
a document stay plain text, and a document that does not fit is truncated.

A template is split into three parts: `head` ends with the last special token before the texts, `tail` begins with the
first one after them, and what lies between is tokenized without special tokens, as one string if the request has no
parts. Tokenizers never merge across a special token, so the three parts give the whole; `PromptTokenizer` verifies
that on samples when it first meets a template.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, TypeVar

import jinja2

from lbr_cli.core import Chat, Document, Embedding, Family, NextToken, Pair, RawTemplate, Request
from lbr_cli.engines.awkward_texts import AWKWARD
from lbr_cli.errors import MissingError, RequestError, first_line

PLACEHOLDER = "\ufdd0"  # a noncharacter: no template contains it
SAMPLES = ("a b", " \n日本é\n\n1 ", "x")
PARTS_KEPT = 1024  # texts around documents whose token ids are kept
# of templates, and of the Python that their expressions call
PYTHON_ERRORS = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError)
TEMPLATE_ERRORS = (jinja2.TemplateError, *PYTHON_ERRORS)
DATES = "strftime_now"  # the function by which a chat template reads the date


R = TypeVar("R", NextToken, Pair, Embedding)


class Prompt(NamedTuple):
    """The token ids of a request, and whether its document was truncated to make them fit."""

    request: Request
    ids: list[int]
    truncated: bool


class Tokenizes(Protocol):
    """Requests -> prompts of at most `max_length` tokens."""

    max_length: int

    def prompt(self, request: Any) -> Prompt:
        """Return the prompt of a request. RequestError if not one token of the document fits."""
        ...

    def length_without_document(self, request: Any) -> int: ...


def narrowed(kind: type[R], request: Request) -> R:
    """Return a request of the kind that an engine expects. TypeError for another kind."""
    if not isinstance(request, kind):
        raise TypeError(f"expected a {kind.__name__} request, not {type(request).__name__}")
    return request


def check_room(tokenizer: Tokenizes, request: Request) -> None:
    """Raise RequestError if the query of a request leaves no room for a document."""
    used = tokenizer.length_without_document(request)
    if used >= tokenizer.max_length:
        raise query_too_long(request, used, tokenizer.max_length)


def query_too_long(request: Request, used: int, limit: int) -> RequestError:
    """The error for a query that leaves no room for a document; `used` tokens without it, of at most `limit`."""
    message = f"the prompt has {used} tokens without a document and may have {limit}, so the query leaves no room"
    return RequestError(message, request, hint="shorten the query, or raise --max-length where the model reads more")


def distinct_prompts(requests: Iterable[Request]) -> Iterator[Request]:
    """Yield one request of each kind that differs in more than the document."""
    seen: set[tuple[Hashable, Hashable]] = set()
    for request in requests:
        kind = request.prefix, request.suffix
        if kind not in seen:
            seen.add(kind)
            yield request


def prefix_keys(requests: Sequence[Request]) -> list[Hashable]:
    """Return for each request a key that is equal for requests whose prompts begin alike.

    Prompts begin alike up to the document, or through it if documents come before queries: then the requests differ
    more in what follows the document than in what precedes it.
    """
    through_document = len({one.suffix for one in requests}) > len({one.prefix for one in requests})
    return [(one.prefix, one.document) if through_document else one.prefix for one in requests]


def decode_with_special_tokens(tokenizer: Any, ids: list[int]) -> str:
    """Return token ids as text, special tokens written out."""
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def prompt_digest(family: Family, tokens: Callable[[Request], object], tokenizer: Any) -> tuple[str, bool]:
    """Return a digest of the prompts of some pairs, and whether a prompt may contain a date.

    The first pair consists of placeholders; the documents of the others are awkward texts, so that two tokenizers have
    different digests. `tokens` returns the prompt of a request.
    """
    digest = hashlib.sha256()
    dated = False
    documents = [Document("", text, "{title}") for text in ("{document}", *AWKWARD)]
    for request in (request for document in documents for request in family.requests("{query}", document)):
        digest.update(repr(request).encode())
        with suppress(RequestError):  # the limit may have room for a short query and none for a placeholder
            digest.update(repr(tokens(request)).encode())
        templated = isinstance(request, NextToken) and isinstance(request.template, Chat)
        dated |= templated and DATES in str(getattr(tokenizer, "chat_template", ""))
    return digest.hexdigest(), dated


@dataclass(frozen=True, slots=True)
class _Template:
    """The parts of a template around the texts. `cuts` means that a long document loses tokens, not characters."""

    head: list[int]
    before: str
    after: str
    tail: list[int]
    strips: bool
    cuts: bool

    def parts(self, request: NextToken, document: str) -> tuple[list[str], str, int, list[str]]:
        """The parts before the document's part, that part, where in it the document begins, and the parts after it."""
        before = [self.before + request.before[0], *request.before[1:]]
        after = [*request.after[:-1], request.after[-1] + self.after]
        if self.strips:
            stripped = (request.before[0] + document + request.after[0]).strip()
            start = len(self.before) + len(request.before[0].lstrip())
            return [], self.before + stripped + self.after, start, []
        return before[:-1], before[-1] + document + after[0], len(before[-1]), after[1:]


class PromptTokenizer:
    """Turns `NextToken` requests into prompts of at most `max_length` tokens."""

    def __init__(self, tokenizer: Any, max_length: int, model: str) -> None:
        self.max_length = max_length
        self._tokenizer = tokenizer
        self._model = model
        self._special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._template = lru_cache(None)(self._split)
        self._part = lru_cache(PARTS_KEPT)(lambda text: self._encode(text, plain=True)[0])

    def prompt(self, request: NextToken) -> Prompt:
        """Return the prompt of a request. RequestError if not one token of the document fits."""
        template = self._template(request.template)
        document = request.document
        before, text, start, after = template.parts(request, document)
        head = [*template.head, *(i for part in before for i in self._part(part))]
        tail = [*(i for part in after for i in self._part(part)), *template.tail]
        room = self.max_length - len(head) - len(tail)
        ids, offsets = self._encode(text, plain=True)
        if len(ids) <= room:
            return Prompt(request, head + ids + tail, False)
        ends = [stop - start for _, stop in offsets if 0 < stop - start <= len(document)]
        kept = len(ends)
        if template.cuts and len(text) == start + len(document):
            if len(ids) - room >= kept:
                raise self._too_long(request)
            return Prompt(request, head + ids[:room] + tail, True)
        # Cut at the end of a token and tokenize the rest again, as if the document had that length. The rest may merge
        # in another way and need another cut.
        while (over := len(ids) - room) > 0:
            kept -= over
            if kept <= 0:
                raise self._too_long(request)
            ids, _ = self._encode(template.parts(request, document[: ends[kept - 1]])[1], plain=True)
        return Prompt(request, head + ids + tail, True)

    def length_without_document(self, request: NextToken) -> int:
        """Return how many tokens the prompt has if its document is empty."""
        template = self._template(request.template)
        before, text, _, after = template.parts(request, "")
        return len(template.head) + sum(len(self._part(part)) for part in (*before, text, *after)) + len(template.tail)

    def _too_long(self, request: NextToken) -> RequestError:
        return query_too_long(request, self.length_without_document(request), self.max_length)

    def _encode(self, text: str, *, plain: bool) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids and their character offsets; `plain` reads special tokens as ordinary text."""
        options = {"add_special_tokens": False, "return_offsets_mapping": True, "verbose": False}
        encoded = self._tokenizer(text, split_special_tokens=plain, **options)
        return encoded["input_ids"], encoded["offset_mapping"]

    def _split(self, template: Chat | RawTemplate) -> _Template:
        rendered = self._render(template, f" {PLACEHOLDER} ")
        strips = f" {PLACEHOLDER} " not in rendered
        before, _, after = rendered.partition(PLACEHOLDER if strips else f" {PLACEHOLDER} ")
        head, head_offsets = self._encode(before, plain=False)
        last = max((index for index, i in enumerate(head) if i in self._special), default=-1)
        tail, tail_offsets = self._encode(after, plain=False)
        first = min((index for index, i in enumerate(tail) if i in self._special), default=len(tail))
        opening, closing = self._added(template)
        split = _Template(
            opening + head[: last + 1],
            before[head_offsets[last][1] if last >= 0 else 0 :],
            after[: tail_offsets[first][0] if first < len(tail) else len(after)],
            tail[first:] + closing,
            strips,
            isinstance(template, RawTemplate),
        )
        for sample in SAMPLES:
            request = NextToken(template, (sample,), sample, ("",), ())
            whole = opening + self._encode(self._render(template, sample + sample), plain=False)[0] + closing
            if split.head + self._encode(split.parts(request, sample)[1], plain=True)[0] + split.tail != whole:
                problem = "its chat template or tokenizer changes the texts of a prompt"
                raise MissingError(f"{self._model}: {problem}, so lbr cannot build its prompts exactly")
        return split

    def _render(self, template: Chat | RawTemplate, user: str) -> str:
        """The template as text, with `user` in the place of the texts."""
        if isinstance(template, RawTemplate):
            return template.before + user + template.after
        chat_template = self._tokenizer.chat_template
        if not chat_template:
            raise MissingError(f"{self._model}: its tokenizer has no chat template, and this family needs one")
        if isinstance(chat_template, dict) and "default" not in chat_template:
            named = ", ".join(map(repr, sorted(chat_template)))
            raise MissingError(f"{self._model}: its chat templates are {named}, and none of them is the default")
        messages = [{"role": "system", "content": template.system}] if template.system else []
        messages.append({"role": "user", "content": user})
        try:
            rendered: str = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except jinja2.TemplateSyntaxError as error:
            raise MissingError(f"{self._model}: invalid chat template: line {error.lineno}: {error.message}") from error
        except TEMPLATE_ERRORS as error:
            what = "a system message" if template.system else "a user message alone"
            problem = f"{type(error).__name__}: {first_line(error)}"
            raise MissingError(f"{self._model}: its chat template fails on {what}: {problem}") from error
        return rendered + template.assistant_prefix

    def _added(self, template: Chat | RawTemplate) -> tuple[list[int], list[int]]:
        """The special tokens that the tokenizer puts before and after a raw template."""
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
