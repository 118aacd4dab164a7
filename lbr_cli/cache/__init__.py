"""A persistent key-value store for scores. A lookup returns what was stored, or nothing.

Each row has a checksum over its key and value, because SQLite has none over its pages. A file that cannot be used
(truncated, damaged, of another program, read-only, on a network file system) causes one warning, and the run continues
without a cache. Only a full disk ends the run.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

from lbr_cli.cache.database import LOCKED, Database, UnknownFile, primary_code, today
from lbr_cli.cache.location import CacheLocation
from lbr_cli.core import Progress
from lbr_cli.errors import RunError

__all__ = ["Cache", "key_digest", "key_of", "open_database"]

KEY_BYTES = 16
CHECK_BYTES = 8
FULL_CODES = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC}
FULL_CODES |= {sqlite3.SQLITE_IOERR_TRUNCATE, sqlite3.SQLITE_IOERR_SHMSIZE}
SHORT_WAIT, LAST_WAIT = 1.0, 60.0  # seconds to wait for a lock, during the run and at its end
MARK_BATCH = 1_000_000  # rows that are marked as used at once
EVICT_EVERY = 20_000  # rows


def key_digest(*parts: bytes) -> hashlib.blake2b:
    """Return a 128-bit digest of the lengths and bytes of `parts`, which can be updated with more bytes."""
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest


def key_of(*parts: bytes | str) -> bytes:
    """Return a 128-bit key from all parts that determine a value."""
    encoded = (part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part for part in parts)
    return key_digest(*encoded).digest()


@contextlib.contextmanager
def open_database(location: CacheLocation) -> Iterator[Database]:
    """Open the database file in this block, for `lbr cache`. RunError if it cannot be used."""
    try:
        with contextlib.closing(Database(location.file)) as database:
            yield database
    except UnknownFile as error:
        raise RunError(f"{location.file} {error}") from error
    except sqlite3.Error as error:
        hint = "delete the file; a new one will be created" if _is_damage(error) else ""
        hint = "free some space on its disk" if _is_full(error) else hint
        raise RunError(f"{location.file}: {error}", hint=hint) from error


class Cache:
    """A store of bytes by key. Use it in a `with` block, whose end writes pending rows. `location` None disables it.

    `kept` counts the scores of this run that are in the file; `usable` is False after a warning.
    """

    def __init__(self, location: CacheLocation | None, progress: Progress) -> None:
        self._progress = progress
        self._database: Database | None = None
        self._limit = location.limit if location else 0
        # rows that could not be written yet because of another process's lock, by model
        self._waiting: dict[str, dict[bytes, bytes]] = {}
        self._used: set[bytes] = set()  # rows to mark as used today
        self._written = 0
        self.kept = 0
        self.usable = location is not None
        if location is not None:
            self._open(location)

    @property
    def on(self) -> bool:
        return self._database is not None

    def _open(self, location: CacheLocation) -> None:
        if problem := location.problem():
            self._disable(problem)
            return
        try:
            location.folder.mkdir(parents=True, exist_ok=True)
            self._database = Database(location.file)
        except UnknownFile as error:
            self._disable(f"{location.file} {error}")
        except FileExistsError:
            self._disable(f"{location.folder} is not a folder")
        except OSError as error:
            self._disable(f"{location.folder}: {error.strerror or error}")
        except (sqlite3.Error, MemoryError) as error:
            self._fail(error, str(location.file))
        else:
            self._evict()

    def contains(self, keys: Sequence[bytes]) -> set[bytes]:
        """Return the keys that have a row; `get` verifies its checksum."""
        stored = {key for rows in self._waiting.values() for key in rows}
        with self._guarded():
            if self._database:
                stored |= self._database.contains(keys)
        return stored.intersection(keys)  # a damaged file may return other keys

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the values of the keys that have an undamaged row."""
        values: dict[bytes, bytes] = {}
        day = today()
        with self._guarded():
            for key, row, used in self._database.get(keys) if self._database else ():
                value = _checked(key, row)
                if value is not None:
                    values[key] = value
                    if used != day:
                        self._used.add(key)
        if len(self._used) >= MARK_BATCH:
            self._mark_used()
        for rows in self._waiting.values():
            values |= {key: rows[key] for key in keys if key in rows}
        return values

    def put(self, rows: Mapping[bytes, bytes], model: str) -> None:
        """Write rows of a model. They are in the file when this returns, or at the end if the file is locked."""
        if self._database and rows:
            self._waiting.setdefault(model, {}).update(rows)
            self._write(SHORT_WAIT)

    def recall(self, *parts: str) -> bytes | None:
        """Return the value that `remember` stored for `parts`, None if there is none."""
        key = key_of(*parts)
        with self._guarded():
            for row in self._database.memo(key) if self._database else ():
                return _checked(key, row)
        return None

    def remember(self, value: bytes, *parts: str) -> None:
        """Store a value that is slow to compute and depends on `parts` alone. Skipped if the file is locked or full."""
        key = key_of(*parts)
        with self._guarded(optional=True):
            if self._database:
                self._database.put_memo(key, _with_check(key, value))

    def _write(self, seconds: float) -> None:
        with self._guarded():
            for model, rows in list(self._waiting.items()):
                if self._database is None:
                    break
                checked = [(key, _with_check(key, value)) for key, value in rows.items()]
                try:
                    self._database.put(checked, model, seconds)
                except sqlite3.OperationalError as error:
                    if primary_code(error) not in LOCKED or seconds == LAST_WAIT:
                        raise
                    return
                del self._waiting[model]
                self._written += len(rows)
                self.kept += len(rows)
        if self._written >= EVICT_EVERY:
            self._evict()

    def _mark_used(self) -> None:
        used, self._used = self._used, set()
        with self._guarded(optional=True):
            if self._database:
                self._database.mark_used(used)

    def _evict(self) -> None:
        self._written = 0
        with self._guarded(optional=True):
            if self._database:
                self._database.evict(self._limit)

    @contextlib.contextmanager
    def _guarded(self, *, optional: bool = False) -> Iterator[None]:
        """Disable the cache after an error of SQLite in this block. Only a full disk raises RunError.

        `optional` work is skipped if the file is locked or the disk is full.
        """
        try:
            yield
        except (sqlite3.Error, MemoryError) as error:
            if optional and (primary_code(error) in LOCKED or _is_full(error)):
                return
            database, self._database = self._database, None
            self._waiting.clear()
            if database:
                with contextlib.suppress(sqlite3.Error):
                    database.close()
                self._fail(error, str(database.path))

    def _fail(self, error: sqlite3.Error | MemoryError, file: str) -> None:
        if _is_full(error):
            hint = "free some space, choose another folder with --cache-dir, or use --no-cache"
            raise RunError(f"score cache {file}: cannot be written: {error}", hint=hint) from error
        self._disable(f"{file}: {error}{'; delete it, and a new one will be created' if _is_damage(error) else ''}")

    def _disable(self, why: str) -> None:
        self.usable = False
        self._progress.warn(f"no score cache {'from here on' if self.kept else 'in this run'}: {why}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """On success, wait up to 60 s for pending writes. On an error, wait 1 s and let the error propagate."""
        if kind is None:
            if self._waiting:
                self._progress.status("waiting for the score cache")
            self._write(LAST_WAIT)
            self._mark_used()
            if self._written:
                self._evict()
        else:
            with contextlib.suppress(RunError):
                self._write(SHORT_WAIT)
        with self._guarded():
            if self._database:
                self._database.close()
        self._database = None


def _is_full(error: sqlite3.Error | MemoryError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) in FULL_CODES


def _is_damage(error: sqlite3.Error | MemoryError) -> bool:
    """Return whether SQLite reports a damaged file, which may look like a missing table or a lack of memory."""
    missing = primary_code(error) == sqlite3.SQLITE_ERROR and "no such" in str(error)
    return missing or primary_code(error) in (0, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _with_check(key: bytes, value: bytes) -> bytes:
    return hashlib.blake2b(key + value, digest_size=CHECK_BYTES).digest() + value


def _checked(key: object, row: object) -> bytes | None:
    """Return the value in a row, None if its checksum is wrong."""
    value = row[CHECK_BYTES:] if isinstance(row, bytes) else b""
    return value if isinstance(key, bytes) and row == _with_check(key, value) else None
