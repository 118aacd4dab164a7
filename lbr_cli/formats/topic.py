"""A TREC or CLEF topic: its number and its fields, and the names that files give them."""

from __future__ import annotations

import re
from typing import NamedTuple

from lbr_cli.errors import InputError

TOPICS = ("topic", "top")
# names of fields for the user -> names in files; the first that is present is used
FIELDS = {
    "title": ("title", "query"),
    "description": ("description", "desc"),
    "narrative": ("narrative", "narr"),
    "text": ("text", *TOPICS),
}
DEFAULT = "title"
NUMBERS = ("num", "number", "id", "qid", "identifier")
LANGUAGE = re.compile(r"[a-z]{2,3}-")


class Topic(NamedTuple):
    """A topic, its first line, and its fields by their names in the file, in lower case.

    Text outside all fields is a field with the name of the topic's element.
    """

    line: int
    fields: dict[str, str]

    @property
    def number(self) -> str:
        """The id, or ""."""
        return next((self.fields[name] for name in NUMBERS if self.fields.get(name)), "")

    def add(self, name: str, text: str, file: str) -> None:
        """Add a field, or more text to it. InputError for a second number."""
        known = self.fields.get(name)
        if name in NUMBERS and known and text not in ("", known):
            raise InputError(f"a topic with two numbers, {known} and {text}", file, self.line)
        if name in TOPICS and not text:
            return
        self.fields[name] = text if not known or name in NUMBERS else f"{known} {text}".rstrip()

    def text(self, field: str, file: str) -> str:
        """Return the field, as `find` does. InputError if there is none, or one in each of several languages."""
        text = self.find(field)
        if text is not None:
            return text
        if names := self._in_languages(field):
            message = f"topic {self.number} has {field.lower()} in several languages: {', '.join(names)}"
            raise InputError(message, file, self.line, hint=f"choose one with --topic-field {names[0]}")
        hint = f"it has {', '.join(self._others()) or 'nothing else'}; choose one with --topic-field"
        raise InputError(f"topic {self.number} has no {field}", file, self.line, hint=hint)

    def find(self, field: str) -> str | None:
        """Return the field of this name, in any case and with or without the language before it, or None.

        The text of a topic that has no fields is its title.
        """
        names = [name for name in _names(field) if name in self.fields]
        others, translated = self._others(), self._in_languages(field)
        if not names and field.lower() == DEFAULT and len(others) == 1 and others[0] in TOPICS:
            names = others
        if not names and len(translated) == 1:
            names = translated
        return self.fields[names[0]] if names else None

    def _others(self) -> list[str]:
        return [name for name in self.fields if name not in NUMBERS]

    def _in_languages(self, field: str) -> list[str]:
        names = _names(field)
        return [name for name in self._others() if LANGUAGE.match(name) and LANGUAGE.sub("", name, count=1) in names]


def _names(field: str) -> tuple[str, ...]:
    """Return the names in files of a field that the user names."""
    return FIELDS.get(field.lower(), (field.lower(),))
