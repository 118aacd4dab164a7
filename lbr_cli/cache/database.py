"""The file of the cache: rows of bytes under 16-byte keys, in SQLite, which several processes may share.

Whatever SQLite says is raised as it is; what becomes of it is the business of `lbr_cli.cache`. A lock that others hold
is waited for in short turns, so that Ctrl-C is heard in between.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from lbr_cli.cache.schema import APPLICATION_ID, FROM_LAYOUT_1, LAYOUT, MEMO_DAYS, SCHEMA, SETTINGS

T = TypeVar("T")
AT_ONCE = 500  # keys in a statement; SQLite's oldest limit is 999
PER_TRANSACTION = 20_000
# of random keys: what a row takes besides key and value, and how full pages are (measured, rows of 45 to 150 bytes)
ROW_BYTES, FULLNESS = 12, 0.87
BYTES = "total(length(key) + length(value))"  # of what is there; in a damaged file, too, a number
SAMPLE = 1 << 26  # bytes that are looked at to know what is in all
TURN = 0.5  # seconds for which SQLite itself waits for a lock
PATIENCE = 10.0
LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
# keys are digests, so that their first bytes cut a table into 256 parts of a size: no statement takes long
PARTS = [(bytes([first]), bytes([first, *[0xFF] * 16])) for first in range(256)]


class UnknownFile(Exception):
    """A database that is not of this program or of this version."""


class ModelRow(NamedTuple):
    """What the cache holds of a model; `last_used` in days since 1970."""

    name: str
    entries: int
    bytes: int
    last_used: int


class Database:
    """An open file. Made if it is not there.

    Raises sqlite3.Error, and UnknownFile for one that is another program's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = sqlite3.connect(path, timeout=TURN, isolation_level=None)
        self._connection.text_factory = bytes  # a damaged text must not fail before it can be looked at
        try:
            _patiently(self._set_up, PATIENCE)
        except BaseException:
            self._connection.close()
            raise

    def _set_up(self) -> None:
        for setting in SETTINGS:
            self._rows(setting)
        if self._is_new():
            self._rows("PRAGMA auto_vacuum = INCREMENTAL")  # only a file without a page can be told
            self._rows("PRAGMA journal_mode = WAL")
            with self._transaction():
                if self._is_new():  # and no other process has been faster
                    for statement in SCHEMA:
                        self._rows(statement)
        if self._number("PRAGMA application_id") != APPLICATION_ID:
            raise UnknownFile("is not a cache of lbr")
        if self._number("PRAGMA user_version") == 1:
            with self._transaction():
                if self._number("PRAGMA user_version") == 1:  # and no other process has been faster
                    for statement in FROM_LAYOUT_1:
                        self._rows(statement)
        layout = self._number("PRAGMA user_version")
        if layout != LAYOUT:
            raise UnknownFile(f"is of another version of lbr (layout {layout}, this one writes {LAYOUT})")
        if self._rows("PRAGMA journal_mode = WAL") != [(b"wal",)]:
            raise UnknownFile("lies where SQLite cannot share it (no WAL)")
        try:
            self._rows("DELETE FROM models WHERE 0")  # raises where the file cannot be written
        except sqlite3.OperationalError as error:
            if primary_code(error) not in LOCKED:  # what others are writing to, we shall be able to write to
                raise

    def _is_new(self) -> bool:
        return not self._number("PRAGMA application_id") and not self._number("SELECT count(*) FROM sqlite_master")

    def close(self) -> None:
        """Let go of the file. The last process to do so leaves nothing beside it."""
        self._connection.close()

    def holds(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of `keys` that are there."""
        found: set[bytes] = set()
        for some, marks in _in_turn(keys):
            found.update(key for (key,) in self._read(f"SELECT key FROM scores WHERE key IN ({marks})", some))
        return found

    def find(self, keys: Sequence[bytes]) -> Iterator[tuple[Any, Any, Any]]:
        """(key, value, day) of those that are there. In a damaged file each of the three may be anything."""
        for some, marks in _in_turn(keys):
            yield from self._read(f"SELECT key, value, day FROM scores WHERE key IN ({marks})", some)

    def keep(self, rows: Iterable[tuple[bytes, bytes]], model: str, seconds: float = PATIENCE) -> None:
        """Write (key, value) of a model, all or none; what stands under the keys gives way."""

        def write() -> None:
            with self._transaction():
                self._rows("INSERT OR IGNORE INTO models (name) VALUES (?)", [model])
                ((number,),) = self._rows("SELECT id FROM models WHERE name = ?", [model])
                day = today()
                self._connection.executemany(
                    "INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?)",
                    [(key, value, number, day) for key, value in rows],
                )

        _patiently(write, seconds)

    def touch(self, keys: Iterable[bytes]) -> None:
        """Note that rows were used today."""
        ordered = sorted(keys)  # neighbours lie on one page, which is then written once
        for start in range(0, len(ordered), PER_TRANSACTION):
            self._touch(ordered[start : start + PER_TRANSACTION])

    def _touch(self, ordered: Sequence[bytes]) -> None:
        def write() -> None:
            with self._transaction():
                for some, marks in _in_turn(ordered):
                    self._rows(f"UPDATE scores SET day = ? WHERE key IN ({marks})", [today(), *some])

        _patiently(write, PATIENCE)

    def memo(self, key: bytes) -> list[Any]:
        """Return the value under a key: a list of one or none. In a damaged file it may be anything."""
        return [value for (value,) in self._read("SELECT value FROM memo WHERE key = ?", [key])]

    def keep_memo(self, key: bytes, value: bytes) -> None:
        """Write a value, and remove those that were written more than `MEMO_DAYS` ago."""

        def write() -> None:
            with self._transaction():
                self._rows("INSERT OR REPLACE INTO memo VALUES (?, ?, ?)", [key, value, today()])
                self._rows("DELETE FROM memo WHERE day < ?", [today() - MEMO_DAYS])

        _patiently(write, TURN)

    def clear_memo(self) -> None:
        """Remove all values of the memo."""
        _patiently(lambda: self._rows("DELETE FROM memo"), PATIENCE)

    def size(self) -> int:
        """Bytes in use."""
        pages = self._number("PRAGMA page_count") - self._number("PRAGMA freelist_count")
        return pages * self._number("PRAGMA page_size")

    def shrink(self, limit: int) -> None:
        """If the file takes more than `limit` bytes, remove rows until a tenth of it is free again, oldest first.

        The file itself stays as it is, but for pages that are wholly free: new rows will
        fill the gaps. So it is the rows that are weighed, and not the pages, or each call would remove more.
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
        """How many rows were last used on each day, and the bytes that they take in pages as full as pages usually are.

        Of a large file a part is looked at, which stands for all.
        """
        looked_at = PARTS[: max(1, min(len(PARTS), len(PARTS) * SAMPLE // size))]
        days: Counter[Any] = Counter()
        taken = 0
        for bounds in looked_at:
            for day, count, bytes_ in self._read(
                f"SELECT day, count(*), {BYTES} FROM scores WHERE key BETWEEN ? AND ? GROUP BY 1", bounds
            ):
                days[day] += count
                taken += bytes_ + count * ROW_BYTES
        share = len(looked_at) / len(PARTS)
        return Counter({day: round(count / share) for day, count in days.items()}), taken / share / FULLNESS

    def remove(self, condition: str = "1", *values: object) -> int:
        """Remove rows and give their room back to the disk; tells how many."""
        removed = self._remove(condition, *values)
        if not removed:
            return 0
        with contextlib.suppress(sqlite3.OperationalError):  # where there is no room for it, or no time: later
            _patiently(lambda: self._rows("VACUUM"), TURN)
        return removed

    def _remove(self, condition: str = "1", *values: object, at_most: int | None = None) -> int:
        """Remove rows, `at_most` so many and those of the part of the table in which that is reached."""
        removed = 0
        for bounds in PARTS:
            if at_most is not None and removed >= at_most:
                break
            removed += self._remove_part(bounds, condition, values)
        free = self._number("PRAGMA freelist_count")
        while free:
            self._read("PRAGMA incremental_vacuum(2000)")
            left = self._number("PRAGMA freelist_count")
            free = left if left < free else 0  # a file that was begun otherwise keeps what is free
        return removed

    def _remove_part(self, bounds: tuple[bytes, bytes], condition: str, values: tuple[object, ...]) -> int:
        def remove() -> int:
            with self._transaction():
                statement = f"DELETE FROM scores WHERE key BETWEEN ? AND ? AND ({condition})"
                return self._connection.execute(statement, [*bounds, *values]).rowcount

        return _patiently(remove, PATIENCE)

    def models(self) -> list[ModelRow]:
        """What there is of each model, by name."""
        rows = self._read("SELECT id, CAST(name AS BLOB) FROM models")
        names = {number: name.decode("utf-8", "replace") for number, name in rows}
        found: dict[str, ModelRow] = {}
        for bounds in PARTS:
            for number, entries, size, day in self._read(
                f"SELECT model, count(*), {BYTES}, max(CAST(day AS INTEGER)) FROM scores"
                " WHERE key BETWEEN ? AND ? GROUP BY 1",
                bounds,
            ):
                name = names.get(number, "unknown")
                row = found.get(name, ModelRow(name, 0, 0, 0))
                found[name] = ModelRow(
                    name, row.entries + entries, row.bytes + int(size), max(row.last_used, min(day, today()))
                )
        return sorted(found.values())

    def remove_model(self, name: str) -> int:
        """Remove the rows of a model; tells how many."""
        return self.remove("model IN (SELECT id FROM models WHERE name = ?)", name)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._rows("BEGIN IMMEDIATE")
            yield
            self._rows("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._rows("ROLLBACK")
            raise

    def _read(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        return _patiently(lambda: self._rows(statement, values), PATIENCE)

    def _rows(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        return self._connection.execute(statement, values).fetchall()

    def _number(self, statement: str) -> int:
        ((number,),) = self._read(statement)
        return int(number)


def today() -> int:
    """Days since 1970, in UTC."""
    return int(time.time() // 86400)


def _in_turn(keys: Sequence[bytes]) -> Iterator[tuple[Sequence[bytes], str]]:
    """The keys, as many at once as a statement takes, and the marks that stand for them."""
    for start in range(0, len(keys), AT_ONCE):
        some = keys[start : start + AT_ONCE]
        yield some, ",".join("?" * len(some))


def _patiently(action: Callable[[], T], seconds: float) -> T:
    """What `action` gives, tried again for so long while others hold the lock."""
    end = time.monotonic() + seconds
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if primary_code(error) not in LOCKED or time.monotonic() > end:
                raise
        time.sleep(0.02)


def primary_code(error: sqlite3.Error | MemoryError) -> int:
    """SQLite's number for what went wrong, less its finer distinctions; 0 where SQLite did not say it."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
