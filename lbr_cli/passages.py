"""Split long documents into passages, and compute the score of a document from the scores of its passages.

A passage has a fixed number of words; the next one begins a stride later, and the last ends with the text. The model
reads title and query with each passage.

A word is a run of letters, digits and marks with the punctuation around it. In scripts without spaces, it is one Han or
kana character, or up to four letters of Thai, Lao, Burmese or Khmer with their marks. A longer run of anything is split
into words of 32 characters. So passages of any text have about the length of passages of prose.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from lbr_cli.core import Document, Score
from lbr_cli.float32 import round_trip_number

CJK, SOUTHEAST_ASIAN = r"\p{Han}\p{Hiragana}\p{Katakana}", r"\p{Thai}\p{Lao}\p{Myanmar}\p{Khmer}"
WORD = (
    rf"(?V1)[^\w\s]{{0,8}}"
    rf"(?:[{CJK}][\p{{M}}ー]{{0,8}}|(?:[[{SOUTHEAST_ASIAN}]--\p{{M}}]\p{{M}}{{0,8}}){{1,4}}"
    rf"|[\w--[{CJK}{SOUTHEAST_ASIAN}]]{{1,32}})"
    r"[^\w\s]{0,8}|\S{1,32}"
)
WORDS = 120
CACHE_BYTES = 64_000_000  # of texts and spans: the same document is a candidate of many queries
SPAN_BYTES = 128  # memory of one span

Spans = Sequence[tuple[int, int]]  # start and end of each passage, in characters


class Passage(NamedTuple):
    """A passage: its number, from 1, of `total` (None if unknown), and the index of its first character."""

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
        doc_id, text, title = document.doc_id, document.text, document.title
        if self.score == "first":
            start, end = next(passage_spans(text, self.words, self.words))
            return [Passage(Document(doc_id, text[start:end], title), 1, None, start)]
        spans = _span_cache.get(text, self.words, self.stride)
        return [
            Passage(Document(doc_id, text[start:end], title), number, len(spans), start)
            for number, (start, end) in enumerate(spans, 1)
        ]

    def aggregate(self, passages: Sequence[Passage], scores: Sequence[Score]) -> Score:
        """Return the score of a document from the scores of its passages.

        The details are those of the best passage (the first if scores are equal), and this passage itself under
        `passage`. For a mean, the details of the best passage are part of `passage`, with its score.
        """
        index = max(range(len(scores)), key=lambda index: scores[index].value)
        best, passage = scores[index], passages[index]
        total = {} if passage.total is None else {"of": passage.total}
        fields: dict[str, Any] = {"number": passage.number, **total, "start": passage.start}
        fields["text"] = passage.document.text
        if self.score != "mean":
            return Score(best.value, {**best.details, "passage": fields}, best.warning)
        mean = sum(score.value for score in scores) / len(scores)
        truncated = any(score.details.get("truncated", False) for score in scores)
        details = {key: value for key, value in best.details.items() if key != "truncated"}
        fields |= {"score": round_trip_number(best.value), **details}
        warning = next((score.warning for score in scores if score.warning), "")
        return Score(mean, {"truncated": truncated, "passage": fields}, warning)


def passage_spans(text: str, words: int, stride: int) -> Iterator[tuple[int, int]]:
    """Yield the span of each passage, from its first word to the end of its last.

    A single passage is the whole text, with the white space around it.
    """
    import regex  # supports scripts and marks, unlike re

    spans: deque[tuple[int, int]] = deque()  # of the words from the beginning of the next passage
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
    """The passage spans of recent texts. The least recently used are evicted if texts and spans exceed `size` bytes.

    A character counts as one byte.
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
        if len(spans) > 1:  # a single span costs little to compute
            self._spans[key] = spans
            self._free -= _size(text, spans)
            while self._free < 0:
                (old_text, *_), old_spans = self._spans.popitem(last=False)
                self._free += _size(old_text, old_spans)
        return spans


def _size(text: str, spans: Spans) -> int:
    return len(text) + SPAN_BYTES * len(spans)


_span_cache = SpanCache(CACHE_BYTES)
