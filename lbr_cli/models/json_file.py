"""JSON files of a model folder: objects whose values are checked for their types.

Each error names the file and the key. A key with the value null counts as absent, as in the libraries that write
these files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from lbr_cli.errors import MissingError, read_error

T = TypeVar("T")
KINDS: dict[type, str] = {
    **{str: "a string", bool: "true or false", int: "an integer", float: "a number"},
    **{list: "an array", dict: "an object"},
}


class JsonFile:
    """The object in a JSON file. A file that does not exist is an empty object if it is `optional`.

    Raises MissingError for a file that cannot be read or contains another value.
    """

    def __init__(self, path: Path, *, optional: bool = False) -> None:
        self.path = path
        if optional and not path.exists():
            self._values: dict[str, Any] = {}
            return
        values = read_json(path)
        if not isinstance(values, dict):
            raise MissingError(f"{path}: a JSON object is needed, this is {kind_of(values)}")
        self._values = values

    @property
    def keys(self) -> list[str]:
        return list(self._values)

    def value(self, key: str) -> Any:
        """Return a value of any type, None if the key is absent."""
        return self._values.get(key)

    def string(self, key: str) -> str | None:
        return self._get(key, str)

    def boolean(self, key: str) -> bool | None:
        return self._get(key, bool)

    def integer(self, key: str) -> int | None:
        return self._get(key, int)

    def object(self, key: str) -> dict[str, Any]:
        """Return an object, empty if the key is absent."""
        return self._get(key, dict) or {}

    def texts(self, key: str) -> dict[str, str]:
        """Return an object whose values are strings, without values that are null."""
        texts = {name: text for name, text in self.object(key).items() if text is not None}
        for name, text in texts.items():
            if not isinstance(text, str):
                raise self.error(f"{key}.{name}", f"has to be a string, this is {kind_of(text)}")
        return texts

    def strings(self, key: str) -> list[str]:
        """Return a list, empty if the key is absent; a string counts as a list of one."""
        value = self._values.get(key)
        values = [] if value is None else value if isinstance(value, list) else [value]
        if not all(isinstance(text, str) for text in values):
            raise self.error(key, f"has to be a string or an array of strings, this is {kind_of(value)}")
        return values

    def error(self, key: str, problem: str, *, hint: str = "") -> MissingError:
        """Return an error about the value of a key."""
        return MissingError(f'{self.path}: "{key}" {problem}', hint=hint)

    def _get(self, key: str, kind: type[T]) -> T | None:
        value = self._values.get(key)
        if value is None or (isinstance(value, kind) and not (kind is int and isinstance(value, bool))):
            return value
        raise self.error(key, f"has to be {KINDS[kind]}, this is {kind_of(value)}")


def read_json(path: Path) -> Any:
    """Return the value in a JSON file. MissingError if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise read_error(path, error, MissingError) from error
    except (ValueError, RecursionError) as error:
        raise MissingError(f"{path}: invalid JSON: {error}") from error


def kind_of(value: object) -> str:
    """Return the JSON type of a value, with its article."""
    return "null" if value is None else KINDS.get(type(value), type(value).__name__)
