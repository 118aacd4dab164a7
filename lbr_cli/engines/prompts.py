"""Requests with a prompt -> token ids, exactly as the model's chat template, or its author's own code, makes them.

For a chat the ids are those of `apply_chat_template` on the whole conversation; for a raw template those of the whole
text, or of its parts if a request has several. There are two deviations: special tokens written out inside a query or
a document stay plain text, and a document that does not fit is truncated.

`templates.py` splits a template into constant token ids and the texts between them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, TypeVar

from lbr_cli.core import (
    Classification,
    Document,
    Embedding,
    Family,
    NextToken,
    Pair,
    Prompted,
    RawTemplate,
    Request,
    TokenEmbeddings,
)
from lbr_cli.engines.awkward_texts import AWKWARD
from lbr_cli.engines.templates import Part, Templates, encode
from lbr_cli.errors import MissingError, RequestError, UsageError

PARTS_KEPT = 1024  # texts around documents whose token ids are kept
SPECIAL_HINT = "a prompt file may have special tokens in system, assistant, and in text around all placeholders"
DATES = "strftime_now"  # the function by which a chat template reads the date


R = TypeVar("R", NextToken, Classification, Pair, Embedding, TokenEmbeddings)


class Prompt(NamedTuple):
    """The token ids of a request, whether its document was truncated to make them fit, and token types, if any."""

    request: Request
    ids: list[int]
    truncated: bool
    types: list[int] | None = None


class Tokenizes(Protocol):
    """Requests -> prompts of at most `max_length` tokens. `pad` is the token id of padding."""

    max_length: int
    pad: int

    def prompt(self, request: Any) -> Prompt:
        """Return the prompt of a request. RequestError if not one token of the document fits."""

    def inputs(self, requests: Sequence[Any]) -> list[Prompt]:
        """Return the prompts of requests that pass `check_room`, with their token types, if any."""

    def length_without_document(self, request: Any) -> int:
        """Return how many tokens the prompt of a request has if its document is empty."""


def narrowed(kind: type[R], request: Request) -> R:
    """Return the request, whose type has to be `kind`. TypeError for another type."""
    if not isinstance(request, kind):
        raise TypeError(f"expected a {kind.__name__} request, not {type(request).__name__}")
    return request


def check_room(tokenizer: Tokenizes, request: Request) -> None:
    """Raise RequestError if the query of a request leaves no room for a document."""
    if tokenizer.length_without_document(request) >= tokenizer.max_length:
        raise query_too_long(tokenizer, request)


def query_too_long(tokenizer: Tokenizes, request: Request) -> RequestError:
    """Return the error for a request whose query leaves no room for its document."""
    used, limit = tokenizer.length_without_document(request), tokenizer.max_length
    message = f"query too long: the prompt has {used} tokens without a document, of at most {limit}"
    return RequestError(message, request, hint="shorten the query, or raise --max-length if the model reads more")


def check_plain(tokenizer: Any, texts: Iterable[str], model: str, hint: str) -> None:
    """Raise MissingError for a special token that is written out in a part of a prompt that is read as plain text."""
    for text in texts:
        if encode(tokenizer, text) != encode(tokenizer, text, plain=False):
            special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
            token = next((token for token in special if token in text), text)
            problem = f"its prompt has the special token {token!r} where lbr reads plain text"
            raise MissingError(f"{model}: {problem}", hint=hint)


def distinct_prompts(requests: Iterable[Request]) -> Iterator[Request]:
    """Yield the first of all requests that differ only in their documents."""
    seen: set[tuple[Hashable, Hashable]] = set()
    for request in requests:
        around = request.prefix, request.suffix
        if around not in seen:
            seen.add(around)
            yield request


def prefix_keys(requests: Sequence[Request]) -> list[Hashable]:
    """Return for each request a key that is equal for requests whose prompts begin alike.

    The key is the part before the document. It includes the document if documents come before queries: then the
    requests have more suffixes than prefixes.
    """
    document_first = len({request.suffix for request in requests}) > len({request.prefix for request in requests})
    return [(request.prefix, request.document) if document_first else request.prefix for request in requests]


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
        templated = isinstance(request, Prompted) and not isinstance(request.template, RawTemplate)
        dated |= templated and DATES in str(getattr(tokenizer, "chat_template", ""))
    return digest.hexdigest(), dated


class PromptTokenizer:
    """Turns requests with a prompt into prompts of at most `max_length` tokens."""

    def __init__(self, tokenizer: Any, max_length: int, model: str) -> None:
        self.max_length = max_length
        self.pad = tokenizer.pad_token_id or 0
        self._tokenizer = tokenizer
        self._model = model
        self._template = lru_cache(None)(Templates(tokenizer, model).split)
        self._text = lru_cache(PARTS_KEPT)(lambda text: tuple(encode(tokenizer, text)[0]))

    def inputs(self, requests: Sequence[Prompted]) -> list[Prompt]:
        """Return the prompts of requests."""
        return [self.prompt(request) for request in requests]

    def prompt(self, request: Prompted) -> Prompt:
        """Return the prompt of a request. RequestError if not one token of the document fits."""
        template = self._template(request.template)
        document = request.document.strip() if template.strips_document else request.document
        before, text, start, after = template.parts(request, document)
        head = [*template.head, *self._ids(before)]
        tail = [*self._ids(after), *template.tail]
        room = self.max_length - len(head) - len(tail)
        ids, offsets = encode(self._tokenizer, text)
        if len(ids) <= room:
            return Prompt(request, head + ids + tail, False)
        ends = [stop - start for _, stop in offsets if 0 < stop - start <= len(document)]
        kept = len(ends)
        if template.cuts_tokens and len(text) == start + len(document):
            if len(ids) - room >= kept:
                raise query_too_long(self, request)
            return Prompt(request, head + ids[:room] + tail, True)
        # Cut the document at the end of a token and tokenize it again, as if it had that length. Its tokens may merge
        # differently then, and need another cut.
        while (over := len(ids) - room) > 0:
            kept -= over
            if kept <= 0:
                raise query_too_long(self, request)
            ids, _ = encode(self._tokenizer, template.parts(request, document[: ends[kept - 1]])[1])
        return Prompt(request, head + ids + tail, True)

    def length_without_document(self, request: Prompted) -> int:
        """Return how many tokens the prompt has if its document is empty."""
        return len(self.ids_without_document(request))

    def ids_without_document(self, request: Prompted) -> list[int]:
        """Return the token ids of the prompt of an empty document, of any number."""
        template = self._template(request.template)
        before, text, _, after = template.parts(request, "")
        return [*template.head, *self._ids([*before, text, *after]), *template.tail]

    def check_special_tokens(self, sample: Prompted) -> None:
        """Raise MissingError for a special token that would be read as plain text. The texts of `sample` are empty."""
        before, text, _, after = self._template(sample.template).parts(sample, sample.document)
        texts = [part for part in (*before, text, *after) if isinstance(part, str)]
        check_plain(self._tokenizer, texts, self._model, SPECIAL_HINT)

    def _ids(self, parts: Sequence[Part]) -> list[int]:
        return [i for part in parts for i in (self._text(part) if isinstance(part, str) else part)]


def check_family(family: Family, engine: str) -> None:
    """Raise UsageError for a family that needs more than log-probabilities of labels."""
    request = family.requests("", Document("", ""))[0]
    problem = f"--engine {engine}: unsupported family {family.name}: it needs"
    if not isinstance(request, NextToken):
        raise UsageError(f"{problem} more than log-probabilities of tokens")
    if request.logits:
        raise UsageError(f"{problem} logits, not log-probabilities")
