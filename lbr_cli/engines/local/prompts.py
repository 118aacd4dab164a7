"""Chats -> token ids, exactly as the model's own chat template and tokenizer make them.

The ids are those of `apply_chat_template` on the whole conversation, with two liberties that the model never had a
say in: special tokens spelt out inside a query or a document stay plain text, and a document that does not fit is
shortened. A prompt falls into three parts: `head` ends with the last special token before the user's text, `tail`
begins with the first one after it, and what lies between is encoded as one piece, with special tokens off. Byte-pair
tokenizers never merge across a special token, so the three make up the whole; `Chat` proves it on a sample when it
is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jinja2

from lbr_cli.core import NextToken
from lbr_cli.errors import MissingError

MARK = "\ufdd0"  # a noncharacter: no template holds it
SAMPLES = ("a b", " \n日本é\n\n1 ", "x")


class Prompt(NamedTuple):
    """Token ids, and whether the document was shortened to make them fit."""

    ids: list[int]
    truncated: bool


class NoRoom(Exception):
    """The query alone fills the prompt. `used` counts its tokens without any document."""

    def __init__(self, used: int) -> None:
        super().__init__(used)
        self.used = used


@dataclass(frozen=True, slots=True)
class _Frame:
    """What the template puts around the user's text for one system line."""

    head: list[int]
    before: str
    after: str
    tail: list[int]
    strips: bool

    def text(self, request: NextToken, document: str) -> str:
        user = request.before + document + request.after
        return self.before + (user.strip() if self.strips else user) + self.after

    def text_place(self, request: NextToken) -> int:
        """Where in `text` the document begins."""
        before = request.before.lstrip() if self.strips else request.before
        return len(self.before) + len(before)


class Chat:
    """Turns `NextToken` requests into prompts of at most `max_length` tokens."""

    def __init__(self, tokenizer: Any, max_length: int, model: str) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.model = model
        self._special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._frames: dict[str, _Frame] = {}

    def prompt(self, request: NextToken) -> Prompt:
        """The ids of a request. Raises NoRoom where not one token of the document fits."""
        frame = self._frame(request.system)
        room = self.max_length - len(frame.head) - len(frame.tail)
        document = request.document
        ids, offsets = self._piece(frame, request, document)
        if len(ids) <= room:
            return Prompt(frame.head + ids + frame.tail, False)
        # Cut where a token of the document ends, and encode again what is left: the model then reads exactly what it
        # would read had the document always been that short. What is left may merge otherwise and need another cut.
        start = frame.text_place(request)
        ends = [stop - start for _, stop in offsets if 0 < stop - start <= len(document)]
        kept = len(ends)
        while (over := len(ids) - room) > 0:
            kept -= over
            if kept <= 0:
                raise NoRoom(self.length_without_document(request))
            ids, _ = self._piece(frame, request, document[: ends[kept - 1]])
        return Prompt(frame.head + ids + frame.tail, True)

    def length_without_document(self, request: NextToken) -> int:
        frame = self._frame(request.system)
        return len(frame.head) + len(self._piece(frame, request, "")[0]) + len(frame.tail)

    def _piece(self, frame: _Frame, request: NextToken, document: str) -> tuple[list[int], list[tuple[int, int]]]:
        return self._encode(frame.text(request, document), plain=True)

    def _encode(self, text: str, *, plain: bool) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and the characters that each stands for; `plain` reads special tokens as ordinary text."""
        encoded = self.tokenizer(
            text, add_special_tokens=False, split_special_tokens=plain, return_offsets_mapping=True, verbose=False
        )
        return encoded["input_ids"], encoded["offset_mapping"]

    def _frame(self, system: str) -> _Frame:
        if system not in self._frames:
            self._frames[system] = self._make_frame(system)
        return self._frames[system]

    def _make_frame(self, system: str) -> _Frame:
        rendered = self._render(system, f" {MARK} ")
        strips = f" {MARK} " not in rendered
        before, _, after = rendered.partition(MARK if strips else f" {MARK} ")
        head, head_offsets = self._encode(before, plain=False)
        last = max((place for place, i in enumerate(head) if i in self._special), default=-1)
        tail, tail_offsets = self._encode(after, plain=False)
        first = min((place for place, i in enumerate(tail) if i in self._special), default=len(tail))
        frame = _Frame(
            head[: last + 1],
            before[head_offsets[last][1] if last >= 0 else 0 :],
            after[: tail_offsets[first][0] if first < len(tail) else len(after)],
            tail[first:],
            strips,
        )
        for sample in SAMPLES:
            request = NextToken(system, sample, sample, "", ())
            whole, _ = self._encode(self._render(system, sample + sample), plain=False)
            if frame.head + self._piece(frame, request, sample)[0] + frame.tail != whole:
                raise MissingError(
                    f"{self.model}: its chat template or tokenizer changes what it is given, so that lbr cannot "
                    "build its prompts exactly"
                )
        return frame

    def _render(self, system: str, user: str) -> str:
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        try:
            rendered: str = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except jinja2.TemplateError as error:
            raise MissingError(f"{self.model}: its chat template takes no system line: {error}") from error
        return rendered
