"""Document -> passages, by which a long one is scored, and their scores -> its own.

A passage is a window of so many words; the next begins a stride further on, and the last ends with the text. Title and
query go with each. A text of one window is read as it is.

A word is a run of letters, digits and marks, as for `--engine overlap`, with the punctuation around it. Where a script
sets no blanks, a Han or kana character counts as one, and so do up to four letters of Thai, Lao, Burmese or Khmer with
their marks; so do 32 characters of anything that goes on and on. So no text makes a window much longer than prose does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from lbr_cli.core import Document, Score
from lbr_cli.numbers import as_written

EACH, SOME = r"\p{Han}\p{Hiragana}\p{Katakana}", r"\p{Thai}\p{Lao}\p{Myanmar}\p{Khmer}"
WORD = (
    rf"(?V1)[^\w\s]{{0,8}}(?:[{EACH}][\p{{M}}ー]*|(?:[[{SOME}]--\p{{M}}]\p{{M}}*){{1,4}}|[\w--[{EACH}{SOME}]]{{1,32}})"
    r"[^\w\s]{0,8}|\S{1,32}"
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
    import regex  # which knows scripts and marks

    spans = [found.span() for found in regex.finditer(WORD, text)]
    if len(spans) <= words:
        return (0,), (text,)
    firsts = range(0, len(spans) - words + stride, stride)
    starts = tuple(spans[first][0] for first in firsts)
    ends = (spans[min(first + words, len(spans)) - 1][1] for first in firsts)
    return starts, tuple(text[start:end] for start, end in zip(starts, ends, strict=True))
