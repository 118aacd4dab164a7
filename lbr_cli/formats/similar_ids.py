"""A hint for an id that is not found: an id that looks like it, but differs in case, blanks or invisible characters.

The hint never decides whether ids match.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence

from lbr_cli.errors import InputError
from lbr_cli.formats.corpus import WantedDocuments, read_corpus
from lbr_cli.formats.fields import Fields
from lbr_cli.formats.files import display_name
from lbr_cli.formats.input_files import InputFiles
from lbr_cli.formats.tables import shards

LIMIT = 1_000_000  # documents that are compared, in a few seconds
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


def _key(text: str, without: str = "") -> str:
    """Return a key that is equal for all ids that look alike. The step `without` is not applied."""
    if not without and text.isascii() and text.isprintable():  # a shortcut: most ids of a corpus are ASCII
        return LEADING_ZEROS.sub("", text.strip().casefold())
    for name, step in STEPS.items():
        text = text if name == without else step(text)
    return text


def _difference(first: str, second: str) -> str:
    """Return the names of the steps that make two ids with the same key equal."""
    single = next((name for name, step in STEPS.items() if step(first) == step(second)), None)
    return single or ", ".join(name for name in STEPS if _key(first, name) != _key(second, name))


class _Missing:
    """Ids of `file` that are not found. As `WantedDocuments.wanted`, it compares each id and contains none."""

    def __init__(self, ids: Iterable[str], file: str) -> None:
        self._by_key: dict[str, str] = {}
        for text in ids:
            self._by_key.setdefault(_key(text), text)
        self._file = file
        self._count = 0

    def hint(self, text: str, file: str) -> str:
        """Describe how the id `text` of `file` differs from a missing id that looks like it; "" if none does."""
        missing = self._by_key.get(_key(text), text)
        if missing == text:
            return ""
        return f"{missing!a} in {self._file} and {text!a} in {file} differ in {_difference(missing, text)}"

    def __contains__(self, doc_id: object) -> bool:
        self._count += 1
        if self.hint(str(doc_id), "") or self._count == LIMIT:
            raise _EndOfSearch(doc_id)
        return False


class _EndOfSearch(Exception):
    """Ends the search, with the id that looks like a missing one, or with the last id that is compared."""


def similar(missing: Iterable[str], others: Iterable[str], file: str, other_file: str) -> str:
    """Describe how a missing id of `file` differs from the first id of `other_file` that looks like it, or ""."""
    ids = _Missing(missing, file)
    return next(filter(None, (ids.hint(text, other_file) for text in others)), "")


def similar_document(missing: Iterable[str], corpora: Sequence[str], fields: Fields, file: str) -> str:
    """Describe how a missing document id of `file` differs from the first id of the corpora that looks like it, or "".

    The corpora that are files are read again, up to LIMIT documents.
    """
    ids = _Missing(missing, file)
    paths = (shard for path in corpora for shard in shards(path))
    for path in filter(os.path.isfile, paths):
        try:
            stream = InputFiles().open(path, columns=fields.table_columns)
            read_corpus(stream, WantedDocuments(ids), fields, lambda _: None, lambda _: None)
        except _EndOfSearch as end:
            return ids.hint(str(end.args[0]), display_name(path))
        except InputError:  # the file has changed since
            continue
    return ""
