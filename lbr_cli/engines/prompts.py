"""`NextToken` requests -> token ids, exactly as the model's chat template, or its author's own code, makes them.

In a chat the ids are those of `apply_chat_template` on the whole conversation; in a verbatim frame those of the
whole text, or of its parts where a request has several. With two liberties that the model never had a say in: special
tokens spelt out inside a query or a document stay plain text, and a document that does not fit is shortened.

A frame falls into three parts: `head` ends with the last special token before the texts, `tail` begins with the first
one after them, and what lies between is encoded with special tokens off, as one piece where the request has no parts.
Tokenizers never merge across a special token, so the three make up the whole; `Prompts` proves it on a sample when it
first meets a frame.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import jinja2

from lbr_cli.core import Chat, Document, Family, NextToken, Request, Verbatim
from lbr_cli.errors import MissingError, RequestError, first_line

MARK = "\ufdd0"  # a noncharacter: no template holds it
SAMPLES = ("a b", " \n日本é\n\n1 ", "x")
PARTS_KEPT = 1024  # parts of prompts that are the same for many documents
# what a template can raise: its own errors, and those of Python that the expressions in it cause
TEMPLATE_ERRORS = (
    *(jinja2.TemplateError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError),
)
DATES = "strftime_now"  # what a chat template calls for the date of today


class Prompt(NamedTuple):
    """Token ids, and whether the document was shortened to make them fit."""

    ids: list[int]
    truncated: bool


def spelt_out(tokenizer: Any, ids: list[int]) -> str:
    """Token ids as text, special tokens spelt out."""
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


class NoRoom(Exception):
    """The query alone fills the prompt. `used` counts its tokens without any document."""

    def __init__(self, used: int) -> None:
        super().__init__(used)
        self.used = used

    def at(self, place: int, limit: int) -> RequestError:
        message = (
            f"the prompt has {self.used} tokens without a document and may have {limit}, so the query leaves no room"
        )
        return RequestError(message, place, hint="shorten the query, or raise --max-length where the model reads more")


class Maker(Protocol):
    """Requests -> token ids."""

    max_length: int

    def prompt(self, request: Any) -> Prompt: ...

    def length_without_document(self, request: Any) -> int: ...


def prompt_for(maker: Maker, request: Request, place: int) -> Prompt:
    """The token ids of a request. RequestError with its place where the query leaves no room for the document."""
    try:
        return maker.prompt(request)
    except NoRoom as error:
        raise error.at(place, maker.max_length) from error


def check_room(maker: Maker, request: Request, place: int) -> None:
    """RequestError where the query of a request leaves no room for any document."""
    used = maker.length_without_document(request)
    if used >= maker.max_length:
        raise NoRoom(used).at(place, maker.max_length)


def digest_of(family: Family, tokens: Callable[[Request], object], tokenizer: Any) -> tuple[str, bool]:
    """A digest of what a pair becomes, told by one of placeholders, and whether a date may stand in it.

    `tokens` says what an engine makes of a request.
    """
    digest = hashlib.sha256()
    dated = False
    for request in family.requests("{query}", Document("", "{document}", "{title}")):
        digest.update(repr(request).encode())
        with suppress(RequestError):  # a limit may have room for a short query and none for a placeholder
            digest.update(repr(tokens(request)).encode())
        templated = isinstance(request, NextToken) and isinstance(request.frame, Chat)
        dated |= templated and DATES in str(getattr(tokenizer, "chat_template", ""))
    return digest.hexdigest(), dated


@dataclass(frozen=True, slots=True)
class _Frame:
    """What a frame puts around the texts. `cuts` says that a long document loses tokens, not characters."""

    head: list[int]
    before: str
    after: str
    tail: list[int]
    strips: bool
    cuts: bool

    def parts(self, request: NextToken, document: str) -> tuple[list[str], str, int, list[str]]:
        """The parts before the document's, that part, the place in it where the document begins, the parts after."""
        before = [self.before + request.before[0], *request.before[1:]]
        after = [*request.after[:-1], request.after[-1] + self.after]
        if self.strips:
            stripped = (request.before[0] + document + request.after[0]).strip()
            start = len(self.before) + len(request.before[0].lstrip())
            return [], self.before + stripped + self.after, start, []
        return before[:-1], before[-1] + document + after[0], len(before[-1]), after[1:]


class Prompts:
    """Turns `NextToken` requests into prompts of at most `max_length` tokens."""

    def __init__(self, tokenizer: Any, max_length: int, model: str) -> None:
        self.max_length = max_length
        self._tokenizer = tokenizer
        self._model = model
        self._special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._frames: dict[Chat | Verbatim, _Frame] = {}
        self._part = lru_cache(PARTS_KEPT)(lambda text: self._encode(text, plain=True)[0])

    def prompt(self, request: NextToken) -> Prompt:
        """The ids of a request. Raises NoRoom where not one token of the document fits."""
        frame = self._frame(request.frame)
        document = request.document
        before, text, start, after = frame.parts(request, document)
        head = [*frame.head, *(i for part in before for i in self._part(part))]
        tail = [*(i for part in after for i in self._part(part)), *frame.tail]
        room = self.max_length - len(head) - len(tail)
        ids, offsets = self._encode(text, plain=True)
        if len(ids) <= room:
            return Prompt(head + ids + tail, False)
        ends = [stop - start for _, stop in offsets if 0 < stop - start <= len(document)]
        kept = len(ends)
        if frame.cuts and len(text) == start + len(document):
            if len(ids) - room >= kept:
                raise NoRoom(self.length_without_document(request))
            return Prompt(head + ids[:room] + tail, True)
        # Cut where a token of the document ends, and encode again what is left: the model then reads exactly what it
        # would read had the document always been that short. What is left may merge otherwise and need another cut.
        while (over := len(ids) - room) > 0:
            kept -= over
            if kept <= 0:
                raise NoRoom(self.length_without_document(request))
            ids, _ = self._encode(frame.parts(request, document[: ends[kept - 1]])[1], plain=True)
        return Prompt(head + ids + tail, True)

    def length_without_document(self, request: NextToken) -> int:
        frame = self._frame(request.frame)
        before, text, _, after = frame.parts(request, "")
        return len(frame.head) + sum(len(self._part(part)) for part in (*before, text, *after)) + len(frame.tail)

    def _encode(self, text: str, *, plain: bool) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and the characters that each stands for; `plain` reads special tokens as ordinary text."""
        encoded = self._tokenizer(
            text, add_special_tokens=False, split_special_tokens=plain, return_offsets_mapping=True, verbose=False
        )
        return encoded["input_ids"], encoded["offset_mapping"]

    def _frame(self, frame: Chat | Verbatim) -> _Frame:
        if frame not in self._frames:
            self._frames[frame] = self._make_frame(frame)
        return self._frames[frame]

    def _make_frame(self, frame: Chat | Verbatim) -> _Frame:
        rendered = self._render(frame, f" {MARK} ")
        strips = f" {MARK} " not in rendered
        before, _, after = rendered.partition(MARK if strips else f" {MARK} ")
        head, head_offsets = self._encode(before, plain=False)
        last = max((place for place, i in enumerate(head) if i in self._special), default=-1)
        tail, tail_offsets = self._encode(after, plain=False)
        first = min((place for place, i in enumerate(tail) if i in self._special), default=len(tail))
        opening, closing = self._added(frame)
        made = _Frame(
            opening + head[: last + 1],
            before[head_offsets[last][1] if last >= 0 else 0 :],
            after[: tail_offsets[first][0] if first < len(tail) else len(after)],
            tail[first:] + closing,
            strips,
            isinstance(frame, Verbatim),
        )
        for sample in SAMPLES:
            request = NextToken(frame, (sample,), sample, ("",), ())
            whole = opening + self._encode(self._render(frame, sample + sample), plain=False)[0] + closing
            if made.head + self._encode(made.parts(request, sample)[1], plain=True)[0] + made.tail != whole:
                raise MissingError(
                    f"{self._model}: its chat template or tokenizer changes what it is given, so that lbr cannot "
                    "build its prompts exactly"
                )
        return made

    def _render(self, frame: Chat | Verbatim, user: str) -> str:
        """A frame as text, with `user` for the texts."""
        if isinstance(frame, Verbatim):
            return frame.before + user + frame.after
        template = self._tokenizer.chat_template
        if not template:
            raise MissingError(f"{self._model}: its tokenizer has no chat template, and this family needs one")
        if isinstance(template, dict) and "default" not in template:
            named = ", ".join(map(repr, sorted(template)))
            raise MissingError(f"{self._model}: its chat templates are {named}, and none of them is the default")
        messages = [{"role": "system", "content": frame.system}] if frame.system else []
        messages.append({"role": "user", "content": user})
        try:
            rendered: str = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except jinja2.TemplateSyntaxError as error:
            raise MissingError(f"{self._model}: invalid chat template: line {error.lineno}: {error.message}") from error
        except TEMPLATE_ERRORS as error:
            what = "a system message" if frame.system else "a user message alone"
            problem = f"{type(error).__name__}: {first_line(error)}"
            raise MissingError(f"{self._model}: its chat template fails on {what}: {problem}") from error
        return rendered + frame.answer

    def _added(self, frame: Chat | Verbatim) -> tuple[list[int], list[int]]:
        """The special tokens that come before and after a verbatim frame."""
        adds = frame.adds if isinstance(frame, Verbatim) else "none"
        if adds == "bos":
            bos = self._tokenizer.bos_token_id
            return [bos] if bos is not None and bos != self._tokenizer.pad_token_id else [], []
        if adds == "none":
            return [], []
        encoded = self._tokenizer("x", return_special_tokens_mask=True)
        ids, mask = encoded["input_ids"], encoded["special_tokens_mask"]
        first = next((place for place, special in enumerate(mask) if not special), len(ids))
        last = max((place for place, special in enumerate(mask) if not special), default=len(ids) - 1)
        return ids[:first], ids[last + 1 :]
