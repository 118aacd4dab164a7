"""Ids that look alike: what to say if an id is not found, and another one differs from it in what is hard to see.

Ids are compared as they are everywhere else; nothing here decides what matches.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lbr_cli.errors import InputError
from lbr_cli.formats.corpus import Fields, WantedDocuments, read_corpus
from lbr_cli.formats.files import display_name
from lbr_cli.formats.input_files import InputFiles

LIMIT = 1_000_000  # documents that are looked at, in a few seconds
LEADING_ZEROS = re.compile(r"^0+(?=.)")
NO_BREAK = str.maketrans({"\u00a0": " ", "\u2007": " ", "\u202f": " ", "\u2011": "-"})


def _visible(text: str) -> str:
    """Return `text` without control and format characters, and with plain blanks and hyphens."""
    return "".join(letter for letter in text.translate(NO_BREAK) if unicodedata.category(letter) not in ("Cc", "Cf"))


# what is ignored -> how to ignore it, applied in this order
STEPS: Mapping[str, Callable[[str], str]] = {
    "invisible or no-break characters": _visible,
    "Unicode normalization": lambda text: unicodedata.normalize("NFC", text),
    "surrounding blanks": lambda text: text.strip(),
    "upper and lower case": str.casefold,
    "leading zeros": lambda text: LEADING_ZEROS.sub("", text),
}


def key(text: str) -> str:
    """Return what all ids that look like `text` have in common."""
    if text.isascii() and text.isprintable():  # fast, for all ids of a corpus
        return LEADING_ZEROS.sub("", text.strip().casefold())
    for step in STEPS.values():
        text = step(text)
    return text


def difference(one: str, other: str) -> str:
    """Name what makes two ids with the same key differ."""
    single = next((name for name, step in STEPS.items() if step(one) == step(other)), None)
    if single:
        return single
    return ", ".join(name for name in STEPS if _without(name, one) != _without(name, other))


def _without(left_out: str, text: str) -> str:
    """Apply all steps but one."""
    for name, step in STEPS.items():
        text = text if name == left_out else step(text)
    return text


@dataclass(slots=True)
class Similar:
    """Ids that are `missing`, and the first of the others that looks like one of them."""

    missing: Iterable[str]
    found: tuple[str, str] | None = None
    _keys: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for text in self.missing:
            self._keys.setdefault(key(text), text)

    def look(self, text: str) -> bool:
        """Compare one more id; whether it is similar to a missing one."""
        missing = self._keys.get(key(text))
        if missing is None or missing == text:
            return False
        self.found = missing, text
        return True

    def sentence(self, here: str, there: str) -> str:
        """Say how the two differ, with escapes, or return ""; `here` and `there` are the files that hold them."""
        if self.found is None:
            return ""
        missing, other = self.found
        return f"{missing!a} in {here} and {other!a} in {there} differ in {difference(missing, other)}"


def similar(missing: Iterable[str], others: Iterable[str], here: str, there: str) -> str:
    """Say how an id that is missing differs from the first similar one of the others, or return ""."""
    known = Similar(missing)
    next((text for text in others if known.look(text)), None)
    return known.sentence(here, there)


def similar_document(missing: Iterable[str], corpora: Sequence[str], fields: Fields, here: str) -> str:
    """Say how a missing document id differs from the first similar one of the corpora, or return "".

    Reads the corpora again, as far as they are files, and at most LIMIT documents.
    """
    search = _Search(Similar(missing))
    for path in corpora:
        if not os.path.isfile(path):
            continue
        try:
            read_corpus(InputFiles().open(path), WantedDocuments(search), fields, lambda _: None, lambda _: None)
        except _EndOfSearch:
            return search.known.sentence(here, display_name(path))
        except InputError:  # the file has changed since
            continue
    return ""


class _EndOfSearch(Exception):
    pass


@dataclass(slots=True)
class _Search:
    """Wants no document, and looks at the id of each."""

    known: Similar
    count: int = 0

    def __contains__(self, doc_id: object) -> bool:
        self.count += 1
        if self.known.look(str(doc_id)) or self.count == LIMIT:
            raise _EndOfSearch
        return False
