"""Document -> passages, by which a long one is scored, and their scores -> its own.

A passage is a window of so many words; the next begins a stride further on, and the last ends with the text. Title and
query go with each. A text of one window is read as it is.

A word is what stands between blanks. Where a script sets none, a Han or kana character counts as one, and so do up to
four letters of Thai, Lao, Burmese or Khmer with their marks; so do 32 characters of anything that goes on without a
blank. So no text makes a window much longer than those of prose.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from lbr_cli.core import Document, Score
from lbr_cli.numbers import as_written

HAN_AND_KANA = r"\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
WITHOUT_BLANKS = [chr(code) for low, high in ((0xE00, 0xEFF), (0x1000, 0x109F), (0x1780, 0x17FF))
                  for code in range(low, high + 1)]  # fmt: skip
LETTERS = "".join(letter for letter in WITHOUT_BLANKS if unicodedata.category(letter)[0] != "M")
MARKS = "".join(letter for letter in WITHOUT_BLANKS if unicodedata.category(letter)[0] == "M")
WORD = re.compile(
    rf"[{HAN_AND_KANA}][^\s{HAN_AND_KANA}\w]*|(?:[{LETTERS}][{MARKS}]*){{1,4}}"
    rf"|[^\s{HAN_AND_KANA}{LETTERS}]{{1,32}}"
)
WORDS = 120
DOCUMENTS_KEPT = 1024  # whose windows are remembered: the same document comes up for many queries


class Passage(NamedTuple):
    """A window of a document: the `number`-th of `of`, from 1, which begins at that character of its text."""

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
        starts, texts = windows(document.text, self.words, self.stride)
        count = 1 if self.score == "first" else len(texts)
        return [
            Passage(Document(document.doc_id, texts[place], document.title), place + 1, len(texts), starts[place])
            for place in range(count)
        ]

    def fold(self, passages: Sequence[Passage], scores: Sequence[Score]) -> Score:
        """The score of a document from those of its passages.

        Its detail names the best passage, of equal ones the first, and holds what the model said of it: as if it were
        the document's, but with the passage where the score is a mean.
        """
        place = max(range(len(scores)), key=lambda place: scores[place].value)
        best, passage = scores[place], passages[place]
        told = {"number": passage.number, "of": passage.of, "start": passage.start, "text": passage.document.text}
        if self.score != "mean":
            return Score(best.value, {**best.detail, "passage": told}, best.doubt)
        mean = sum(score.value for score in scores) / len(scores)
        truncated = any(score.detail.get("truncated", False) for score in scores)
        said = {key: value for key, value in best.detail.items() if key != "truncated"}
        detail = {"truncated": truncated, "passage": {**told, "score": as_written(best.value), **said}}
        return Score(mean, detail, next((score.doubt for score in scores if score.doubt), ""))


@lru_cache(DOCUMENTS_KEPT)
def windows(text: str, words: int, stride: int) -> tuple[Sequence[int], Sequence[str]]:
    """Where each window begins, and its text: from its first word to the end of its last."""
    spans = [found.span() for found in WORD.finditer(text)]
    if len(spans) <= words:
        return (0,), (text,)
    firsts = range(0, len(spans) - words + stride, stride)
    starts = tuple(spans[first][0] for first in firsts)
    ends = (spans[min(first + words, len(spans)) - 1][1] for first in firsts)
    return starts, tuple(text[start:end] for start, end in zip(starts, ends, strict=True))
