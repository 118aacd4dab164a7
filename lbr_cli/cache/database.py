"""The file of the cache: an SQLite database of bytes under 16-byte keys, which several processes may share.

Errors of SQLite are raised unchanged; `lbr_cli.cache` handles them. A wait for a lock is a sequence of short waits, so
that Ctrl-C works in between.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from lbr_cli.cache.schema import APPLICATION_ID, FROM_LAYOUT_1, LAYOUT, MEMO_DAYS, SCHEMA, SETTINGS

T = TypeVar("T")
KEYS_PER_STATEMENT = 500  # SQLite's oldest limit is 999
PER_TRANSACTION = 20_000  # rows
# with random keys: bytes of a row besides key and value, and how full pages are (measured, rows of 45 to 150 bytes)
ROW_BYTES, FULLNESS = 12, 0.87
BYTES = "total(length(key) + length(value))"  # a number even in a damaged file
SAMPLE_BYTES = 1 << 26  # read to estimate the contents of a larger file
LOCK_TURN = 0.5  # seconds that SQLite itself waits for a lock
LOCK_TIMEOUT = 10.0
LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
# keys are digests, so their first byte divides a table into 256 parts of equal size: each statement is short
PARTS = [(bytes([first]), bytes([first, *[0xFF] * 16])) for first in range(256)]


class UnknownFile(Exception):
    """A database of another program or another version."""


class ModelRow(NamedTuple):
    """The entries of a model; `last_used` in days since 1970."""

    name: str
    entries: int
    bytes: int
    last_used: int


class Database:
    """An open database file, which is created if it does not exist. Raises sqlite3.Error and UnknownFile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = sqlite3.connect(path, timeout=LOCK_TURN, isolation_level=None)
        self._connection.text_factory = bytes  # damaged text must not raise
        try:
            _retry_locked(self._set_up, LOCK_TIMEOUT)
        except BaseException:
            self._connection.close()
            raise

    def _set_up(self) -> None:
        for setting in SETTINGS:
            self._rows(setting)
        if self._is_new():
            self._rows("PRAGMA auto_vacuum = INCREMENTAL")  # possible only before the first page
            self._rows("PRAGMA journal_mode = WAL")
            with self._transaction():
                if self._is_new():  # no other process was faster
                    for statement in SCHEMA:
                        self._rows(statement)
        if self._number("PRAGMA application_id") != APPLICATION_ID:
            raise UnknownFile("is not a cache of lbr")
        if self._number("PRAGMA user_version") == 1:
            with self._transaction():
                if self._number("PRAGMA user_version") == 1:  # no other process was faster
                    for statement in FROM_LAYOUT_1:
                        self._rows(statement)
        layout = self._number("PRAGMA user_version")
        if layout != LAYOUT:
            raise UnknownFile(f"was written by another version of lbr (layout {layout}, this version writes {LAYOUT})")
        if self._rows("PRAGMA journal_mode = WAL") != [(b"wal",)]:
            raise UnknownFile("is on a file system where SQLite cannot share it (no WAL)")
        try:
            self._rows("DELETE FROM models WHERE 0")  # raises if the file cannot be written
        except sqlite3.OperationalError as error:
            if primary_code(error) not in LOCKED:  # a locked file is writable
                raise

    def _is_new(self) -> bool:
        return not self._number("PRAGMA application_id") and not self._number("SELECT count(*) FROM sqlite_master")

    def close(self) -> None:
        """Close the file. The last process to do so removes the files beside it."""
        self._connection.close()

    def contains(self, keys: Sequence[bytes]) -> set[bytes]:
        """Return the keys that have a row."""
        stored: set[bytes] = set()
        for batch, marks in _batches(keys):
            stored.update(key for (key,) in self._run(f"SELECT key FROM scores WHERE key IN ({marks})", batch))
        return stored

    def get(self, keys: Sequence[bytes]) -> Iterator[tuple[Any, Any, Any]]:
        """Yield (key, value, day) of the keys that have a row. In a damaged file each may be anything."""
        for batch, marks in _batches(keys):
            yield from self._run(f"SELECT key, value, day FROM scores WHERE key IN ({marks})", batch)

    def put(self, rows: Sequence[tuple[bytes, bytes]], model: str, seconds: float = LOCK_TIMEOUT) -> None:
        """Write (key, value) rows of a model, all or none, over rows with the same keys."""

        def write() -> None:
            with self._transaction():
                self._rows("INSERT OR IGNORE INTO models (name) VALUES (?)", [model])
                ((number,),) = self._rows("SELECT id FROM models WHERE name = ?", [model])
                day = today()
                complete = ((key, value, number, day) for key, value in rows)
                self._connection.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?)", complete)

        _retry_locked(write, seconds)

    def mark_used(self, keys: Iterable[bytes]) -> None:
        """Mark rows as used today."""
        ordered = sorted(keys)  # neighbours are on one page, which is then written once

        def write(start: int) -> None:
            with self._transaction():
                for batch, marks in _batches(ordered[start : start + PER_TRANSACTION]):
                    self._rows(f"UPDATE scores SET day = ? WHERE key IN ({marks})", [today(), *batch])

        for start in range(0, len(ordered), PER_TRANSACTION):
            _retry_locked(functools.partial(write, start), LOCK_TIMEOUT)

    def memo(self, key: bytes) -> list[Any]:
        """Return a list with the value of a key, or an empty list. In a damaged file, the value may be anything."""
        return [value for (value,) in self._run("SELECT value FROM memo WHERE key = ?", [key])]

    def put_memo(self, key: bytes, value: bytes) -> None:
        """Write a value, and remove those that were written more than `MEMO_DAYS` ago."""
        self._run("INSERT OR REPLACE INTO memo VALUES (?, ?, ?)", [key, value, today()], LOCK_TURN)
        self._run("DELETE FROM memo WHERE day < ?", [today() - MEMO_DAYS], LOCK_TURN)

    def clear_memo(self) -> None:
        """Remove all values of the memo."""
        self._run("DELETE FROM memo")

    def size(self) -> int:
        """Return the bytes in use."""
        pages = self._number("PRAGMA page_count") - self._number("PRAGMA freelist_count")
        return pages * self._number("PRAGMA page_size")

    def evict(self, limit: int) -> None:
        """If the file is larger than `limit` bytes, remove rows until a tenth is free, least recently used first.

        Partly free pages stay in the file for new rows. So the limit is compared with the size of the rows: if it were
        compared with that of the pages, each call would remove more rows.
        """
        size = self.size()
        if size <= limit:
            return
        days, weight = self._sample(size)
        if weight <= limit:
            return
        surplus = int(sum(days.values()) * (1 - 0.9 * limit / weight)) + 1
        for day in sorted(days, key=lambda day: day if isinstance(day, int) else 0):
            if days[day] > surplus:
                self._remove("day < ?", day)
                self._remove("day = ?", day, at_most=surplus)
                return
            surplus -= days[day]
        self._remove()

    def _sample(self, size: int) -> tuple[Counter[Any], float]:
        """Return the number of rows by the day of their last use, and the bytes of all in pages of `FULLNESS`.

        For a large file, both are estimated from a part of it.
        """
        sampled = PARTS[: max(1, min(len(PARTS), len(PARTS) * SAMPLE_BYTES // size))]
        days: Counter[Any] = Counter()
        stored_bytes = 0
        for day, count, bytes_ in self._by_part(f"day, count(*), {BYTES}", sampled):
            days[day] += count
            stored_bytes += bytes_ + count * ROW_BYTES
        share = len(sampled) / len(PARTS)
        return Counter({day: round(count / share) for day, count in days.items()}), stored_bytes / share / FULLNESS

    def remove(self, condition: str = "1", *values: object) -> int:
        """Remove rows and release their space. Return how many rows were removed."""
        removed = self._remove(condition, *values)
        if removed:
            with contextlib.suppress(sqlite3.OperationalError):  # disk full or file locked: a later call vacuums
                self._run("VACUUM", seconds=LOCK_TURN)
        return removed

    def _remove(self, condition: str = "1", *values: object, at_most: int | None = None) -> int:
        """Remove rows, part by part, until at least `at_most` are removed."""
        removed = 0
        for bounds in PARTS:
            if at_most is not None and removed >= at_most:
                break
            removed += self._remove_part([*bounds, *values], condition)
        free = self._number("PRAGMA freelist_count")
        while free:
            self._run("PRAGMA incremental_vacuum(2000)")
            remaining = self._number("PRAGMA freelist_count")
            free = remaining if remaining < free else 0  # a file without incremental vacuum
        return removed

    def _remove_part(self, values: Sequence[object], condition: str) -> int:
        statement = f"DELETE FROM scores WHERE key BETWEEN ? AND ? AND ({condition})"
        return _retry_locked(lambda: self._connection.execute(statement, values).rowcount, LOCK_TIMEOUT)

    def models(self) -> list[ModelRow]:
        """Return the entries of each model, ordered by name."""
        rows = self._run("SELECT id, CAST(name AS BLOB) FROM models")
        names = {number: name.decode("utf-8", "replace") for number, name in rows}
        models: dict[str, ModelRow] = {}
        for number, entries, size, day in self._by_part(f"model, count(*), {BYTES}, max(CAST(day AS INTEGER))", PARTS):
            name = names.get(number, "unknown")
            row = models.get(name, ModelRow(name, 0, 0, 0))
            last_used = max(row.last_used, min(day, today()))
            models[name] = ModelRow(name, row.entries + entries, row.bytes + int(size), last_used)
        return sorted(models.values())

    def _by_part(self, columns: str, parts: Iterable[tuple[bytes, bytes]]) -> Iterator[Any]:
        """Yield the rows of each part, grouped by the first column."""
        for bounds in parts:
            yield from self._run(f"SELECT {columns} FROM scores WHERE key BETWEEN ? AND ? GROUP BY 1", bounds)

    def remove_model(self, name: str) -> int:
        """Remove the rows of a model. Return how many."""
        return self.remove("model IN (SELECT id FROM models WHERE name = ?)", name)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._connection:  # commits, or rolls back on an error
            self._rows("BEGIN IMMEDIATE")
            yield

    def _run(self, statement: str, values: Sequence[object] = (), seconds: float = LOCK_TIMEOUT) -> list[Any]:
        return _retry_locked(lambda: self._rows(statement, values), seconds)

    def _rows(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        return self._connection.execute(statement, values).fetchall()

    def _number(self, statement: str) -> int:
        ((number,),) = self._run(statement)
        return int(number)


def today() -> int:
    """Return the days since 1970, in UTC."""
    return int(time.time() // 86400)


def _batches(keys: Sequence[bytes]) -> Iterator[tuple[Sequence[bytes], str]]:
    """Yield the keys in batches for one statement each, with their placeholders."""
    for start in range(0, len(keys), KEYS_PER_STATEMENT):
        batch = keys[start : start + KEYS_PER_STATEMENT]
        yield batch, ",".join("?" * len(batch))


def _retry_locked(action: Callable[[], T], seconds: float) -> T:
    """Return the result of `action`; while the file is locked, retry for `seconds`.

    Python cannot decode an error message of SQLite that quotes a damaged schema; this is raised as DatabaseError.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if primary_code(error) not in LOCKED or time.monotonic() > end:
                raise
        except UnicodeDecodeError as error:
            raise sqlite3.DatabaseError("the schema is damaged") from error
        time.sleep(0.02)


def primary_code(error: sqlite3.Error | MemoryError) -> int:
    """Return SQLite's primary error code; 0 for an error of another source."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
