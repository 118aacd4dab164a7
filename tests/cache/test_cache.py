"""The score cache: a lookup returns what was stored, or nothing, whatever happens to the file."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbr_cli.cache import Cache, database, key_of, location, open_database
from lbr_cli.cache.database import Database, today
from lbr_cli.cache.location import CacheLocation, cache_location, network_file_system, parse_size
from lbr_cli.errors import RunError, UsageError
from support.paths import ROOT
from support.progress import RecordedProgress

LIMIT = 10**9


def opened(folder: Path, listener: RecordedProgress | None = None, limit: int = LIMIT) -> Cache:
    return Cache(CacheLocation(folder, limit), listener or RecordedProgress())


def key(number: int) -> bytes:
    return key_of(str(number).encode())


def ran(code: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process, with the folder as argument, and return the completed process."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = [sys.executable, "-c", code, str(folder), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def filled(folder: Path, count: int, size: int = 20) -> dict[bytes, bytes]:
    rows = {key(number): f"{number:0{size}}".encode() for number in range(count)}
    with opened(folder) as cache:
        cache.put(rows, "m")
    return rows


def test_stored_values_are_read_by_a_later_cache_and_no_other_file_is_left(tmp_path: Path) -> None:
    listener = RecordedProgress()
    rows = filled(tmp_path, 1234)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.sqlite"]
    with opened(tmp_path, listener) as cache:
        assert cache.get([*rows, key(-1)]) == rows
        assert cache.contains([*rows, key(-1)]) == set(rows)
    assert listener.warnings == []


def test_put_writes_to_the_file_before_it_returns(tmp_path: Path) -> None:
    with opened(tmp_path) as cache, opened(tmp_path) as other:
        cache.put({key(1): b"one"}, "m")
        assert other.get([key(1)]) == {key(1): b"one"}
        assert cache.kept == 1


def test_a_disabled_cache_stores_nothing() -> None:
    with Cache(None, RecordedProgress()) as cache:
        cache.put({key(1): b"one"}, "m")
        assert (cache.on, cache.get([key(1)]), cache.contains([key(1)]), cache.kept) == (False, {}, set(), 0)


@given(st.lists(st.binary(max_size=3), max_size=4), st.lists(st.binary(max_size=3), max_size=4))
def test_different_parts_have_different_keys(one: list[bytes], other: list[bytes]) -> None:
    assert (key_of(*one) == key_of(*other)) == (one == other)


def test_a_memo_value_is_found_by_all_parts_of_its_key(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        cache.remember(b"sum", "file", "size")
        assert (cache.recall("file", "size"), cache.recall("files", "ize")) == (b"sum", None)


# ---------------------------------------------------------------- files that are not as they should be


def flipped(path: Path, offset: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


@pytest.mark.slow
@settings(max_examples=300)
@given(st.integers(0, 2**32), st.integers(0, 7))
def test_a_flipped_bit_may_lose_rows_but_changes_no_value(number: int, bit: int) -> None:
    folder = FLIPPED / "copy"
    folder.mkdir(parents=True, exist_ok=True)
    if not (FLIPPED / "scores.sqlite").exists():
        filled(FLIPPED, 300)
    rows = {key(number): f"{number:020}".encode() for number in range(300)}
    path = folder / "scores.sqlite"
    shutil.copy(FLIPPED / "scores.sqlite", path)
    flipped(path, number % path.stat().st_size, bit)
    fresh = {key(-number): b"new" for number in range(1, 50)}
    listener = RecordedProgress()
    with opened(folder, listener) as cache:
        found = cache.get(list(rows))
        assert found.items() <= rows.items()
        assert cache.contains(list(rows)) <= set(rows)
        cache.put(fresh, "m")
        again = cache.get([*rows, *fresh])
        assert again.items() <= (rows | fresh).items()
    assert len(listener.warnings) <= 1
    for beside in ("-wal", "-shm"):
        path.with_name(path.name + beside).unlink(missing_ok=True)


@pytest.fixture(autouse=True, scope="module")
def _flipped(tmp_path_factory: pytest.TempPathFactory) -> None:
    global FLIPPED
    FLIPPED = tmp_path_factory.mktemp("flipped")


FLIPPED = Path()


def test_a_file_that_sqlite_created_before_can_be_evicted_from(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "scores.sqlite") as connection:
        connection.executescript("CREATE TABLE x (y); DROP TABLE x")
    filled(tmp_path, 2000, 100)
    with opened(tmp_path, limit=100_000) as cache:
        assert 0 < len(cache.contains([key(number) for number in range(2000)])) < 1500


def test_a_file_that_fails_later_is_a_warning(tmp_path: Path) -> None:
    listener = RecordedProgress()
    with opened(tmp_path, listener) as cache:
        cache.put({key(1): b"one"}, "m")
        with sqlite3.connect(tmp_path / "scores.sqlite") as connection:
            connection.execute("DROP TABLE scores")
        cache.put({key(2): b"two"}, "m")
        assert (cache.on, cache.usable, cache.kept) == (False, False, 1)
    assert listener.warnings == [
        f"no score cache from here on: {tmp_path}/scores.sqlite: no such table: scores; delete it, and a new one will "
        "be created"
    ]


def test_a_symbolic_link_loop_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    listener = RecordedProgress()
    with opened(tmp_path / "loop" / "lbr", listener) as cache:
        assert not cache.on
    assert listener.warnings == [f"no score cache in this run: {tmp_path}/loop/lbr: Too many levels of symbolic links"]


def test_a_full_disk_does_not_replace_the_error_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL]  # a lock, so that rows wait to be written at the end

    def fail(*_: object) -> None:
        error = sqlite3.OperationalError("no")
        error.sqlite_errorcode = codes.pop(0)
        raise error

    def interrupted() -> None:
        with opened(tmp_path) as cache:
            cache.put({key(1): b"one"}, "m")
            raise KeyboardInterrupt

    monkeypatch.setattr(Database, "put", fail)
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not codes


def test_a_value_stored_for_another_key_is_a_miss(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    with sqlite3.connect(tmp_path / "scores.sqlite") as connection:
        connection.execute("UPDATE scores SET value = (SELECT value FROM scores WHERE key = ?)", [key(0)])
    with opened(tmp_path) as cache:
        assert cache.get([key(0), key(1)]) == {key(0): b"0" * 20}


def torn(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def no_database(path: Path) -> None:
    path.write_bytes(b"d1\t0.5\n" * 1000)


def damaged_schema(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE memo", b"CREATE\xfaTABLE memo"))


def foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE scores (key, value)")


def newer(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 3")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (torn, "database disk image is malformed; delete it, and a new one will be created"),
        (no_database, "file is not a database; delete it, and a new one will be created"),
        (damaged_schema, "the schema is damaged; delete it, and a new one will be created"),
        (foreign, "is not a cache of lbr"),
        (newer, "was written by another version of lbr (layout 3, this version writes 2)"),
        (a_folder, "unable to open database file"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_unusable_file_is_one_warning_and_stays_unchanged(tmp_path: Path, spoil: object, message: str) -> None:
    rows = filled(tmp_path, 1000)
    path = tmp_path / "scores.sqlite"
    spoil(path)  # type: ignore[operator]
    before = path.is_dir() or path.read_bytes()
    listener = RecordedProgress()
    with opened(tmp_path, listener) as cache:
        for _ in range(2):
            assert cache.get(list(rows)).items() <= rows.items()
            cache.put({key(-1): b"new"}, "m")
    (warning,) = listener.warnings
    assert warning.startswith(f"no score cache in this run: {path}")
    assert warning.endswith(message)
    assert before in (True, path.read_bytes() if path.is_file() else None)


def test_a_folder_that_cannot_be_created_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    listener = RecordedProgress()
    with opened(tmp_path / "file" / "folder", listener) as cache:
        assert not cache.on
    assert listener.warnings == [f"no score cache in this run: {tmp_path}/file/folder: Not a directory"]


READ_ONLY = """
import os, sys
from pathlib import Path
from support.progress import RecordedProgress
from lbr_cli.cache import Cache
from lbr_cli.cache.location import CacheLocation
if os.geteuid() == 0:
    os.setuid(65534)
listener = RecordedProgress()
with Cache(CacheLocation(Path(sys.argv[1]), 10**9), listener) as cache:
    print(cache.on, *listener.warnings)
"""


@pytest.mark.parametrize("folder_too", [True, False])
def test_a_read_only_file_is_a_warning(folder_too: bool) -> None:
    folder = Path("/tmp") / f"lbr-read-only-{os.getpid()}-{folder_too}"  # a folder that other users can enter
    folder.mkdir()
    try:
        filled(folder, 10)
        (folder / "scores.sqlite").chmod(0o444)
        folder.chmod(0o555 if folder_too else 0o777)
        ended = ran(READ_ONLY, folder)
        assert ended.stdout.startswith("False no score cache in this run: "), ended.stderr
    finally:
        folder.chmod(0o777)
        shutil.rmtree(folder)


def test_a_network_file_system_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    shared = tmp_path / "with blank"
    local = shared / "local"
    escaped = str(shared).replace(" ", "\\040")
    mounts.write_text(f"/dev/a / ext4 rw 0 0\nhost:/x {escaped} nfs4 rw 0 0\n/dev/b {escaped}/local xfs rw 0 0\n")
    monkeypatch.setattr(location, "MOUNTS", mounts)
    mounts.write_text(mounts.read_text() + "/dev/c /media/a\x0cb\u2028c vfat rw 0 0\nmac /data virtiofs rw 0 0\n")
    assert network_file_system(Path("/data/lbr")) == "virtiofs"  # NousResearch/hermes-agent #110847
    assert [network_file_system(folder) for folder in (tmp_path, shared, shared / "deep" / "er", local)] == [
        "",
        "nfs4",
        "nfs4",
        "",
    ]
    listener = RecordedProgress()
    with opened(shared / "lbr", listener) as cache:
        assert not cache.on
    assert listener.warnings == [f"no score cache in this run: {shared}/lbr is on a network file system (nfs4)"]
    assert not shared.exists()


FULL = """
import resource, signal, sys
from pathlib import Path
from support.progress import RecordedProgress
from lbr_cli.cache import Cache, key_of
from lbr_cli.cache.location import CacheLocation
from lbr_cli.errors import RunError
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    with Cache(CacheLocation(Path(sys.argv[1]), 10**9), RecordedProgress()) as cache:
        for number in range(10_000):
            cache.put({key_of(str(number).encode()): bytes(100)}, "m")
except RunError as error:
    print(error, "|", error.hint)
"""


def test_a_full_disk_ends_the_run(tmp_path: Path) -> None:
    ended = ran(FULL, tmp_path)
    assert ended.stdout.startswith(f"score cache {tmp_path}/scores.sqlite: cannot be written: "), ended.stderr
    assert ended.stdout.endswith(" | free some space, choose another folder with --cache-dir, or use --no-cache\n")


# ---------------------------------------------------------------- several at once

TOGETHER = """
import sys
from pathlib import Path
from support.progress import RecordedProgress
from lbr_cli.cache import Cache, key_of
from lbr_cli.cache.location import CacheLocation
listener = RecordedProgress()
with Cache(CacheLocation(Path(sys.argv[1]), 10**9), listener) as cache:
    for number in range(0, 400, 4):
        keys = [key_of(f"{sys.argv[2]} {one}".encode()) for one in range(number, number + 4)]
        assert not cache.contains(keys)
        cache.put(dict.fromkeys(keys, b"x" * 100), f"m{sys.argv[2]}")
        assert len(cache.get(keys)) == 4
assert not listener.warnings, listener.warnings
"""


def test_eight_processes_write_to_one_file_without_losing_rows(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as jobs:
        ended = list(jobs.map(lambda number: ran(TOGETHER, tmp_path, str(number)), range(8)))
    assert [(job.returncode, job.stderr) for job in ended] == [(0, "")] * 8
    with opened(tmp_path) as cache:
        keys = [key_of(f"{number} {one}".encode()) for number in range(8) for one in range(400)]
        assert len(cache.get(keys)) == 3200
    assert [path.name for path in tmp_path.iterdir()] == ["scores.sqlite"]
    with sqlite3.connect(tmp_path / "scores.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_lock_held_by_another_process_at_the_start_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCK_TURN", 0.05)
    monkeypatch.setattr("lbr_cli.cache.SHORT_WAIT", 0.01)
    rows = filled(tmp_path, 10)
    holder = sqlite3.connect(tmp_path / "scores.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    listener = RecordedProgress()
    with opened(tmp_path, listener) as cache:
        assert cache.get(list(rows)) == rows
        cache.put({key(-1): b"new"}, "m")
        holder.execute("ROLLBACK")
        holder.close()
    with opened(tmp_path) as cache:
        assert cache.get([key(-1)]) == {key(-1): b"new"}
    assert listener.warnings == []


def test_an_interrupted_transaction_is_rolled_back(tmp_path: Path) -> None:
    def interrupted() -> Iterator[tuple[bytes, bytes]]:
        yield key(0), b"zero"
        raise KeyboardInterrupt

    with open_database(CacheLocation(tmp_path, LIMIT)) as kept:
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                kept.put(interrupted(), "m")
            with contextlib.closing(sqlite3.connect(kept.path, timeout=0, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")  # raises if a transaction is open
        kept.put([(key(1), b"one")], "m")
        assert [row[:2] for row in kept.get([key(0), key(1)])] == [(key(1), b"one")]


@pytest.mark.parametrize("code", [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE])
def test_failed_eviction_and_failed_marks_of_use_are_ignored(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        error = sqlite3.OperationalError("no")
        error.sqlite_errorcode = code
        raise error

    rows = filled(tmp_path, 10)
    on_day(monkeypatch, today() + 1)
    monkeypatch.setattr(Database, "mark_used", fail)
    monkeypatch.setattr(Database, "evict", fail)
    listener = RecordedProgress()
    with opened(tmp_path, listener) as cache:
        assert cache.get(list(rows)) == rows
    assert listener.warnings == []


def test_the_file_is_vacuumed_only_if_rows_were_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path, 10)
    statements: list[str] = []
    connect = sqlite3.connect

    def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    with open_database(CacheLocation(tmp_path, LIMIT)) as kept:
        assert kept.remove("day < ?", 0) == 0
        assert "VACUUM" not in statements
        assert kept.remove() == 10
        assert "VACUUM" in statements


def test_rows_that_wait_for_a_lock_are_found_and_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lbr_cli.cache.SHORT_WAIT", 0.01)
    listener = RecordedProgress()
    with opened(tmp_path, listener) as cache:
        holder = sqlite3.connect(tmp_path / "scores.sqlite", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        cache.put({key(1): b"one"}, "m")
        assert (cache.get([key(1)]), cache.contains([key(1)]), cache.kept) == ({key(1): b"one"}, {key(1)}, 0)
        holder.execute("ROLLBACK")
        holder.close()
        cache.put({key(2): b"two"}, "m")
        assert cache.kept == 2
    with opened(tmp_path) as cache:
        assert len(cache.get([key(1), key(2)])) == 2
    assert listener.warnings == []


# ---------------------------------------------------------------- size and age


def on_day(monkeypatch: pytest.MonkeyPatch, day: int) -> None:
    monkeypatch.setattr(database, "today", lambda: day)
    monkeypatch.setattr("lbr_cli.cache.today", lambda: day)


def test_least_recently_used_rows_are_evicted_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {day: {key(1000 * day + number): bytes(100) for number in range(1000)} for day in range(4)}
    for day, rows in values.items():
        on_day(monkeypatch, day)
        with opened(tmp_path) as cache:
            cache.put(rows, "m")
            if day == 3:
                cache.get(list(values[0]))  # the oldest are used again
    size = (tmp_path / "scores.sqlite").stat().st_size
    with opened(tmp_path, limit=int(size * 0.9)) as cache:
        there = {day: len(cache.get(list(rows))) for day, rows in values.items()}
    assert there[0] == there[3] == 1000
    assert 100 < there[1] < 400
    assert there[2] == 1000
    with opened(tmp_path, limit=int(size * 0.9)) as cache:
        assert sum(len(cache.get(list(rows))) for rows in values.values()) == sum(there.values())


def test_a_cache_full_of_rows_of_one_day_is_evicted_from(tmp_path: Path) -> None:
    with opened(tmp_path, limit=500_000) as cache:
        for start in range(0, 10_000, 1000):
            cache.put({key(number): bytes(100) for number in range(start, start + 1000)}, "m")
    assert (tmp_path / "scores.sqlite").stat().st_size <= 600_000
    with opened(tmp_path) as cache:
        assert len(cache.get([key(number) for number in range(10_000)])) > 1000


def test_a_row_is_marked_as_used_once_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touched: list[int] = []
    monkeypatch.setattr(Database, "mark_used", lambda self, keys: touched.append(len(list(keys))))
    on_day(monkeypatch, today())
    rows = filled(tmp_path, 10)
    for days in (0, 1):
        on_day(monkeypatch, today() + days)
        with opened(tmp_path) as cache:
            cache.get(list(rows))
    assert touched == [0, 0, 10]


def test_rows_store_the_day_of_their_last_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = list(filled(tmp_path, 10))
    on_day(monkeypatch, today() + 5)
    with opened(tmp_path) as cache:
        cache.get(rows[:4])
    with sqlite3.connect(tmp_path / "scores.sqlite") as connection:
        days = dict(connection.execute("SELECT day, count(*) FROM scores GROUP BY 1"))
    assert days == {database.today(): 4, database.today() - 5: 6}


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("2GB", 2 * 10**9),
        ("500 MB", 5 * 10**8),
        ("1.5g", 15 * 10**8),
        ("10k", 10_000),
        ("7", 7),
        ("7B", 7),
        ("1T", 10**12),
    ],
)
def test_valid_sizes(size: str, expected: int) -> None:
    assert parse_size(size) == expected


@pytest.mark.parametrize("size", ["", "GB", "-1", "1 XB", "1e9", "2GiB", "9" * 400])
def test_invalid_sizes_are_errors(size: str) -> None:
    with pytest.raises(UsageError, match="invalid size"):
        parse_size(size)


@pytest.mark.parametrize(("folder", "expected"), [("~/scores", "{home}/scores"), ("./~", "~"), ("a/~b", "a/~b")])
def test_the_folder_may_begin_with_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, expected: str
) -> None:
    """No shell expands the value of LBR_CACHE_DIR in a crontab; astral-sh/uv #9326."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_location(folder).folder == Path(expected.format(home=tmp_path))
    with pytest.raises(UsageError, match="--cache-dir ~no_such_user/x: unknown home folder"):
        cache_location("~no_such_user/x")


def test_random_use_never_gives_a_wrong_value(tmp_path: Path) -> None:
    """A small cache that is shared and evicts all the time returns correct values."""
    source = random.Random(0)
    with opened(tmp_path, limit=100_000) as one, opened(tmp_path, limit=100_000) as other:
        for _ in range(300):
            cache = source.choice((one, other))
            numbers = [source.randrange(2000) for _ in range(50)]
            found = cache.get([key(number) for number in numbers])
            assert all(found.get(key(number), b"%d" % number) == b"%d" % number for number in numbers)
            cache.put({key(number): b"%d" % number for number in numbers}, source.choice("ab"))


def test_commands_raise_run_error_for_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "scores.sqlite").write_bytes(b"x" * 1000)
    with (
        pytest.raises(RunError, match=r"scores\.sqlite: file is not a database"),
        open_database(CacheLocation(tmp_path, LIMIT)),
    ):
        pass


@pytest.mark.slow
@settings(max_examples=100)
@given(st.integers(0, 2**32), st.integers(0, 7))
def test_cache_commands_read_a_damaged_file_or_raise_run_error(number: int, bit: int) -> None:
    folder = FLIPPED / "looked at"
    folder.mkdir(parents=True, exist_ok=True)
    filled(folder, 300)
    path = folder / "scores.sqlite"
    flipped(path, number % path.stat().st_size, bit)
    with contextlib.suppress(RunError), open_database(CacheLocation(folder, LIMIT)) as database:
        assert all(row.entries >= 0 and row.last_used <= today() for row in database.models())
        database.remove("day < ?", today())
        database.remove_model("m")
    path.unlink()
    for beside in ("-wal", "-shm"):
        path.with_name(path.name + beside).unlink(missing_ok=True)


def test_a_file_of_layout_1_is_migrated_without_its_rows(tmp_path: Path) -> None:
    filled(tmp_path, 10)
    with sqlite3.connect(tmp_path / "scores.sqlite") as connection:
        connection.execute("DROP TABLE memo")
        connection.execute("PRAGMA user_version = 1")
    listener = RecordedProgress()
    with opened(tmp_path, listener) as cache:
        assert cache.get([key(1)]) == {}
        cache.put({key(1): b"new"}, "m")
        cache.remember(b"value", "a", "b")
    with opened(tmp_path, listener) as cache:
        assert cache.get([key(1)]) == {key(1): b"new"}
        assert (cache.recall("a", "b"), cache.recall("ab")) == (b"value", None)
    assert listener.warnings == []


def test_old_memo_values_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path) as cache:
        cache.remember(b"old", "old")
        later = database.today() + 101
        monkeypatch.setattr("lbr_cli.cache.database.today", lambda: later)
        assert cache.recall("old") == b"old"
        cache.remember(b"new", "new")
        assert (cache.recall("old"), cache.recall("new")) == (None, b"new")
