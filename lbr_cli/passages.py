"""Split long documents into passages, and compute the score of a document from the scores of its passages.

A passage is a number of words; the next passage begins a stride later, and the last ends with the text. Title and query
are read with each passage. A text of one passage stays as it is.

A word is a run of letters, digits and marks with the punctuation around it. In scripts without blanks, a word is one
Han or kana character, or up to four letters of Thai, Lao, Burmese or Khmer with their marks. A longer run of anything
is split into words of 32 characters. So passages of any text have about the length of passages of prose.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, NamedTuple

from lbr_cli.core import Document, Score
from lbr_cli.float32 import round_trip_number

EACH, SOME = r"\p{Han}\p{Hiragana}\p{Katakana}", r"\p{Thai}\p{Lao}\p{Myanmar}\p{Khmer}"
WORD = (
    rf"(?V1)[^\w\s]{{0,8}}"
    rf"(?:[{EACH}][\p{{M}}ー]{{0,8}}|(?:[[{SOME}]--\p{{M}}]\p{{M}}{{0,8}}){{1,4}}|[\w--[{EACH}{SOME}]]{{1,32}})"
    r"[^\w\s]{0,8}|\S{1,32}"
)
WORDS = 120
CACHE_BYTES = 64_000_000  # of texts and spans: the same document is a candidate of many queries
SPAN_BYTES = 128

Spans = Sequence[tuple[int, int]]  # start and end of each passage, in characters


class Passage(NamedTuple):
    """A passage of a document: its number from 1, of `total` (None if not counted), and where it starts in the text."""

    document: Document
    number: int
    total: int | None
    start: int


@dataclass(frozen=True, slots=True)
class Passages:
    """How to split documents. The score of a document is that of the `first` passage, the `max` or the `mean`."""

    score: Literal["first", "max", "mean"]
    words: int = WORDS
    stride: int = WORDS // 2

    def split(self, document: Document) -> list[Passage]:
        """Return the passages to score, at least one."""
        text = document.text
        if self.score == "first":
            spans: Spans = list(islice(passage_spans(text, self.words, self.words), 1))
            total = None
        else:
            spans = _span_cache.get(text, self.words, self.stride)
            total = len(spans)
        return [
            Passage(Document(document.doc_id, text[start:end], document.title), number, total, start)
            for number, (start, end) in enumerate(spans, 1)
        ]

    def aggregate(self, passages: Sequence[Passage], scores: Sequence[Score]) -> Score:
        """Return the score of a document from the scores of its passages.

        The details are those of the best passage (of equal ones the first), plus the passage itself. For a mean, they
        are part of the passage.
        """
        index = max(range(len(scores)), key=lambda index: scores[index].value)
        best, passage = scores[index], passages[index]
        shown: dict[str, Any] = {"number": passage.number}
        if passage.total is not None:
            shown["of"] = passage.total
        shown |= {"start": passage.start, "text": passage.document.text}
        if self.score != "mean":
            return Score(best.value, {**best.details, "passage": shown}, best.warning)
        mean = sum(score.value for score in scores) / len(scores)
        truncated = any(score.details.get("truncated", False) for score in scores)
        details = {key: value for key, value in best.details.items() if key != "truncated"}
        shown |= {"score": round_trip_number(best.value), **details}
        warning = next((score.warning for score in scores if score.warning), "")
        return Score(mean, {"truncated": truncated, "passage": shown}, warning)


def passage_spans(text: str, words: int, stride: int) -> Iterator[tuple[int, int]]:
    """Yield the span of each passage, from its first word to the end of its last.

    The only passage of a short text is all of it, with the blanks around it.
    """
    import regex  # knows scripts and marks, unlike re

    spans: deque[tuple[int, int]] = deque()  # of words, from the first of the next passage
    has_several = False
    end = 0
    for match in regex.finditer(WORD, text):
        spans.append(match.span())
        if len(spans) > words:  # a word follows this passage, so it is not the last
            yield spans[0][0], spans[words - 1][1]
            has_several = True
            for _ in range(stride):
                spans.popleft()
        end = match.end()
    yield (spans[0][0], end) if has_several else (0, len(text))


class SpanCache:
    """The spans of the least recently used texts are dropped when texts and spans take more than `size` bytes.

    A character is counted as a byte.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._spans: OrderedDict[tuple[str, int, int], Spans] = OrderedDict()

    def __len__(self) -> int:
        return len(self._spans)

    def get(self, text: str, words: int, stride: int) -> Spans:
        """Return the spans of a text, computed if they are not cached."""
        key = text, words, stride
        spans = self._spans.get(key)
        if spans is not None:
            self._spans.move_to_end(key)
            return spans
        spans = tuple(passage_spans(*key))
        if len(spans) > 1:  # a single span is computed in no time
            self._spans[key] = spans
            self._free -= _size(text, spans)
            while self._free < 0:
                (old_text, *_), old_spans = self._spans.popitem(last=False)
                self._free += _size(old_text, old_spans)
        return spans


def _size(text: str, spans: Spans) -> int:
    return len(text) + SPAN_BYTES * len(spans)


_span_cache = SpanCache(CACHE_BYTES)
