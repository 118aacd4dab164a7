"""The engine without a model: the share of the query's distinct words that the document contains.

Words are runs of `\\w`, case-folded; a query without a word scores 0. Use it to test files and pipelines, not to rank.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from lbr_cli.core import Answer, Batch, Engine, Pair, Request
from lbr_cli.engines import Settings

WORD = re.compile(r"\w+")


def prepare(model: None, settings: Settings) -> Overlap:
    """Return the engine: there is nothing to prepare, and nothing to load."""
    return Overlap()


class Overlap:
    description = "no model"
    window = 1
    spec = None
    warnings = ()

    def load(self, pairs: int = 0) -> Engine:
        """Return the engine itself."""
        return self

    def check(self, requests: Iterable[Request]) -> None:
        """Any pair can be answered."""

    def answer(self, windows: Iterable[Sequence[Request]]) -> Iterator[Batch]:
        """Yield a batch for each window."""
        for window in windows:
            words_of: dict[str, set[str]] = {}
            answers = []
            for request in window:
                if not isinstance(request, Pair):
                    raise TypeError(f"overlap answers pairs, not {type(request).__name__}")
                words = words_of.get(request.query)
                if words is None:
                    words = words_of[request.query] = set(WORD.findall(request.query.casefold()))
                document = request.document.casefold()
                shared = sum(_contains(document, word) for word in words)
                answers.append((request, Answer((shared / len(words) if words else 0.0,))))
            yield Batch(answers)


def _contains(text: str, word: str) -> bool:
    """Whether `word` is one of the runs of `\\w` in `text`; for the few words of a query faster than splitting."""
    start = text.find(word)
    while start >= 0:
        end = start + len(word)
        if not _is_word(text[start - 1 : start]) and not _is_word(text[end : end + 1]):
            return True
        start = text.find(word, start + 1)
    return False


def _is_word(character: str) -> bool:
    """Whether a character, or none, is `\\w`."""
    return character.isalnum() or character == "_"
