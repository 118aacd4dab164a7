"""The engine without a model: the share of the query's distinct words that the document holds.

Words are runs of `\\w`, case-folded; a query without a word scores 0. It is there to try files and pipelines in no
time, not to rank well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from lbr_cli.core import Answer, Answered, Engine, Pair, Request
from lbr_cli.engines import Settings
from lbr_cli.models import Model

WORD = re.compile(r"\w+")


def prepare(model: Model | None, settings: Settings) -> Overlap:
    """There is nothing to prepare, and nothing to load."""
    return Overlap()


class Overlap:
    setting = "no model"
    terms = None
    warnings = ()

    def load(self) -> Engine:
        return self

    def expect(self, requests: Iterable[Request]) -> int:
        """Nothing to prepare: every pair can be answered."""
        return sum(1 for _ in requests)

    def answer(self, requests: Sequence[Request]) -> Iterator[Answered]:
        words_of: dict[str, set[str]] = {}
        batch = []
        for request in requests:
            if not isinstance(request, Pair):
                raise TypeError(f"overlap answers pairs, not {type(request).__name__}")
            if request.query not in words_of:
                words_of[request.query] = set(WORD.findall(request.query.casefold()))
            wanted = words_of[request.query]
            document = request.document.casefold()
            found = sum(_holds(document, word) for word in wanted)
            batch.append((request, Answer((found / len(wanted) if wanted else 0.0,))))
        yield batch


def _holds(text: str, word: str) -> bool:
    """Whether `word` is one of the runs of `\\w` in `text`; a query has few words, so finding beats splitting."""
    place = text.find(word)
    while place >= 0:
        end = place + len(word)
        if not _is_word(text[place - 1 : place]) and not _is_word(text[end : end + 1]):
            return True
        place = text.find(word, place + 1)
    return False


def _is_word(character: str) -> bool:
    """Whether a character, or none, is `\\w`."""
    return character.isalnum() or character == "_"
