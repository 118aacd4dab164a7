"""Ids that look alike: what to say if an id is not found, and another one differs from it in what is hard to see.

Ids are compared as they are everywhere else; nothing here decides what matches.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

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
    names = []
    for name, step in STEPS.items():
        before, (one, other) = one != other, (step(one), step(other))
        if before and (one == other or step is STEPS[name]):
            names.append(name)
        if one == other:
            break
    return ", ".join(names)


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
        """Say how the two differ, or return ""; `here` and `there` are the files, in escapes all that is not ASCII."""
        if self.found is None:
            return ""
        missing, other = self.found
        return f"{ascii(missing)} in {here} and {ascii(other)} in {there} differ in {difference(missing, other)}"


def similar(missing: Iterable[str], others: Iterable[str], here: str, there: str) -> str:
    """Say how an id that is missing differs from the first similar one of the others, or return ""."""
    known = Similar(missing)
    next((text for text in others if known.look(text)), None)
    return known.sentence(here, there)
