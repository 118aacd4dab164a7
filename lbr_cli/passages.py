"""Document -> passages, by which a long one is scored, and their scores -> its own.

A passage is a window of so many words; the next begins a stride further on, and the last ends with the text. Title and
query go with each. A text of one window is read as it is.

A word is a run of letters, digits and marks, with the punctuation around it. Where a script sets no blanks, a Han or
kana character counts as one, and so do up to four letters of Thai, Lao, Burmese or Khmer with their marks; so do 32
characters of anything that goes on and on. So a window of any text is about as long as one of prose, but for blanks.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, NamedTuple

from lbr_cli.core import Document, Score
from lbr_cli.numbers import as_written

EACH, SOME = r"\p{Han}\p{Hiragana}\p{Katakana}", r"\p{Thai}\p{Lao}\p{Myanmar}\p{Khmer}"
WORD = (
    rf"(?V1)[^\w\s]{{0,8}}"
    rf"(?:[{EACH}][\p{{M}}ー]{{0,8}}|(?:[[{SOME}]--\p{{M}}]\p{{M}}{{0,8}}){{1,4}}|[\w--[{EACH}{SOME}]]{{1,32}})"
    r"[^\w\s]{0,8}|\S{1,32}"
)
WORDS = 120
KEPT = 64_000_000  # bytes of texts and windows that are remembered: the same document comes up for many queries
WINDOW_BYTES = 128


class Passage(NamedTuple):
    """A window of a document: the `number`-th of `of`, from 1, which begins at that character of its text.

    `of` is 0 where the others have not been looked for.
    """

    document: Document
    number: int
    of: int
    start: int


@dataclass(frozen=True, slots=True)
class Passages:
    """How a document is cut, and what its score is: that of the `first` passage, their `max`, or their `mean`."""

    score: Literal["first", "max", "mean"]
    words: int = WORDS
    stride: int = WORDS // 2

    def cut(self, document: Document) -> list[Passage]:
        """The passages that have to be scored, at least one."""
        text = document.text
        if self.score == "first":
            spans: Sequence[tuple[int, int]] = list(islice(windows(text, self.words, self.words), 1))
            of = 0
        else:
            spans = _window_cache(text, self.words, self.stride)
            of = len(spans)
        return [
            Passage(Document(document.doc_id, text[start:end], document.title), number, of, start)
            for number, (start, end) in enumerate(spans, 1)
        ]

    def fold(self, passages: Sequence[Passage], scores: Sequence[Score]) -> Score:
        """The score of a document from those of its passages.

        Its detail names the best passage, of equal ones the first, and holds what the model said of it: as if it were
        the document's, but with the passage where the score is a mean.
        """
        place = max(range(len(scores)), key=lambda place: scores[place].value)
        best, passage = scores[place], passages[place]
        told: dict[str, Any] = {"number": passage.number}
        if passage.of:
            told["of"] = passage.of
        told |= {"start": passage.start, "text": passage.document.text}
        if self.score != "mean":
            return Score(best.value, {**best.details, "passage": told}, best.warning)
        mean = sum(score.value for score in scores) / len(scores)
        truncated = any(score.details.get("truncated", False) for score in scores)
        said = {key: value for key, value in best.details.items() if key != "truncated"}
        detail = {"truncated": truncated, "passage": {**told, "score": as_written(best.value), **said}}
        return Score(mean, detail, next((score.warning for score in scores if score.warning), ""))


def windows(text: str, words: int, stride: int) -> Iterator[tuple[int, int]]:
    """Where each window begins and ends: from its first word to the end of its last.

    A text that has one window is all of it, blanks around it included.
    """
    import regex  # which knows scripts and marks

    spans: deque[tuple[int, int]] = deque()  # of the words from the next window's first on
    first = end = 0
    for found in regex.finditer(WORD, text):
        spans.append(found.span())
        if len(spans) > words:  # another word stands behind this window: it is not the last
            yield spans[0][0], spans[words - 1][1]
            first += 1
            for _ in range(stride):
                spans.popleft()
        end = found.end()
    yield (spans[0][0], end) if first else (0, len(text))


class WindowCache:
    """The windows of the texts that were used last, in `room` bytes."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._windows: OrderedDict[tuple[str, int, int], Sequence[tuple[int, int]]] = OrderedDict()

    def __call__(self, text: str, words: int, stride: int) -> Sequence[tuple[int, int]]:
        key = text, words, stride
        found = self._windows.get(key)
        if found is not None:
            self._windows.move_to_end(key)
            return found
        found = tuple(windows(*key))
        if len(found) > 1:  # one window takes no time to find again
            self._windows[key] = found
            self._room -= _size(key, found)
            while self._room < 0:
                self._room += _size(*self._windows.popitem(last=False))
        return found


def _size(key: tuple[str, int, int], found: Sequence[tuple[int, int]]) -> int:
    """What a text and its windows take, in characters, one of which stands for a byte."""
    return len(key[0]) + WINDOW_BYTES * len(found)


_window_cache = WindowCache(KEPT)
