"""Models that are given a prompt: what they make of its last place goes to a head, which says what was asked for.

A reader reads the prompts: `packed.py` plain causal models, `padded.py` other causal ones, `seq2seq.py` those with an
encoder. `Prompts` and `Pairs` make the prompts, `LabelHead` and `ScoreHead` read what comes of them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import count
from typing import Any, Protocol

import torch

from lbr_cli.core import Answer, Answered, Request
from lbr_cli.engines.announced import around, document, look_over
from lbr_cli.engines.local.compiling import Compiling
from lbr_cli.engines.local.plan import Budget, ahead
from lbr_cli.engines.prompts import Maker, Prompt, check_room, prompt_for
from lbr_cli.errors import RequestError

CHUNK = 256  # prompts made while those before are computed


class Reader(Protocol):
    """Rows of token ids -> hidden states."""

    manner: str  # how tokens see each other, in a few words

    def read(
        self, rows: Sequence[list[int]], groups: Sequence[Hashable], budget: Budget
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Yield places of `rows` and [places, hidden size], float32, of what is to follow each.

        `groups` names for each row the group it belongs to, the rows of which begin alike.
        """
        ...


class Head(Protocol):
    """Hidden states -> the values of an answer."""

    def check(self, request: Any) -> None: ...

    def __call__(self, hidden: torch.Tensor, request: Any) -> list[list[float]]: ...


class Prompted:
    """Answers `NextToken` or `Pair` requests."""

    def __init__(
        self, reader: Reader, maker: Maker, head: Head, budget: Budget, setting: str, compiling: Compiling | None = None
    ) -> None:
        self.attention = reader.manner
        self._reader = reader
        self._maker = maker
        self._head = head
        self._budget = budget
        self._setting = setting
        self._compiling = compiling
        self._together: dict[Request, list[Request]] = {}
        self._answers: dict[Request, tuple[Sequence[float], bool]] = {}
        self._calls = count()

    @property
    def setting(self) -> str:
        return f"{self._setting}{', compiled' if self._compiling and self._compiling.done else ''}"

    def expect(self, requests: Iterable[Request]) -> int:
        """Look up the labels, and refuse now a query that leaves no room for a document.

        Where the documents come first, fix which requests are computed together: those of one document, whichever
        query asks.
        """

        def check(request: Request, place: int) -> None:
            self._head.check(request)
            check_room(self._maker, request, place)

        announced = look_over(requests, check)
        if announced.document_first:
            self._plan_bydocument(requests)
        if self._compiling:
            self._compiling.expect(announced.count)
        return announced.count

    @torch.inference_mode()
    def answer(self, requests: Sequence[Request]) -> Iterator[Answered]:
        known = {request: Answer(*self._answers[request], 0, 0) for request in requests if request in self._answers}
        yield list(known.items())
        others = []
        for place, request in enumerate(requests):
            if request not in self._together:
                others.append(place)
            elif request not in self._answers:
                yield from self._planned(request, place)
        # numbered, so that what the last call kept is not used: which one that was must not show in a score
        call = next(self._calls)
        kinds = [around(requests[place]) for place in others]
        by_document = len({after for _, after in kinds}) > len({before for before, _ in kinds})
        groups = [
            (call, before, document(requests[place]) if by_document else "")
            for place, (before, _) in zip(others, kinds, strict=True)
        ]
        yield from self._compute(requests, others, groups)

    def _plan_bydocument(self, requests: Iterable[Request]) -> None:
        of_document: dict[tuple[int, str, str], dict[Request, None]] = {}
        for request in requests:
            text = document(request)
            of_document.setdefault((len(text), text, str(around(request)[0])), {})[request] = None
        chunk: list[Request] = []
        for _, together in sorted(of_document.items(), key=lambda item: item[0]):
            chunk += sorted(together, key=lambda request: str(around(request)[1]))
            self._together.update(dict.fromkeys(together, chunk))
            if len(chunk) >= CHUNK:
                chunk = []

    def _planned(self, request: Request, place: int) -> Iterator[Answered]:
        """The answers to a request whose company `expect` has fixed, and to the others of its chunk; they are kept."""
        chunk = self._together[request]
        groups = [(around(other)[0], document(other)) for other in chunk]
        try:
            for batch in self._compute(chunk, range(len(chunk)), groups):
                self._answers.update((other, (answer.values, answer.truncated)) for other, answer in batch)
                yield batch
        except RequestError as error:
            raise error.at(place) from error

    def _compute(
        self, asked: Sequence[Request], places: Sequence[int], groups: Sequence[Hashable]
    ) -> Iterator[Answered]:
        """Answers to some of the requests; each of `places` has its group, the prompts of which begin alike."""

        def chunks() -> Iterator[tuple[Sequence[int], Sequence[Hashable], list[Prompt]]]:
            for start in range(0, len(places), CHUNK):
                chunk = places[start : start + CHUNK]
                prompts = [prompt_for(self._maker, asked[place], place) for place in chunk]
                yield chunk, groups[start : start + CHUNK], prompts

        for chunk, alike, prompts in ahead(chunks()):
            rows = [prompt.ids for prompt in prompts]
            try:
                for batch, hidden in self._reader.read(rows, alike, self._budget):
                    values = self._head(hidden, asked[chunk[0]])  # one family asks, so all have the same labels
                    yield [
                        (asked[chunk[place]], Answer(row, prompts[place].truncated, len(rows[place])))
                        for place, row in zip(batch, values, strict=True)
                    ]
            except RequestError as error:
                raise error.at(chunk[error.place]) from error
