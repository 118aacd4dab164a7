"""Bytes out: standard output, or a file that appears only when it is whole.

A regular file is written beside its place as `.NAME.lbr-tmp`, synced and renamed over what was there; until then the
old one stands. A device, a pipe or a descriptor is written straight. Names that end in .gz or .zst are compressed.
What the bytes say is the business of the other modules here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import io
import os
import re
import select
import stat
import sys
from types import TracebackType
from typing import IO, Any, Protocol, Self

import zstandard

from lbr_cli.errors import LbrError, RunError, UsageError

STDOUT = "-"
DESCRIPTOR = re.compile(r"/(?:dev/fd|proc/self/fd)/([0-9]{1,6})|/dev/(stdout|stderr)")
PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EFBIG}


class ReaderGone(Exception):
    """Who reads our output has seen enough, as `head` does: no error, but there is nothing left to do."""


class Output(Protocol):
    """Where results go. Leaving its `with` block without an exception publishes what was written."""

    def write(self, data: bytes) -> None:
        """Take the results of a query; a stream hands them on at once."""
        ...

    def finish(self) -> None:
        """Nothing more comes: have every byte where there is room for it. A file is yet to be published."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_output(path: str, *, clobber: bool = True, digest: Any = None) -> Output:
    """The output that `path` names; `-` is standard output. `digest`, of hashlib, hears every byte that is written.

    Raises UsageError where nothing can be written there, or where something stands and `clobber` is False, and
    RunError where another process is writing the same file.
    """
    if not path:
        raise UsageError("--output: an empty name")
    if path == STDOUT:
        if sys.stdout is None:
            raise RunError("standard output is closed")
        return _Straight(sys.stdout.fileno(), "standard output", digest, close=False)
    try:
        descriptor = DESCRIPTOR.fullmatch(path)
        if descriptor:  # ours already: opening it by name would forget where it stands
            number = int(descriptor[1]) if descriptor[1] else {"stdout": 1, "stderr": 2}[descriptor[2]]
            if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
                raise UsageError(f"{path}: cannot be written: open for reading only")
            return _Straight(number, path, digest, close=False)
        if path.endswith("/"):
            raise UsageError(f"{path}: cannot be written: Is a directory")
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            return _Straight(os.open(path, os.O_WRONLY), path, digest, close=True)
    except FileNotFoundError:
        mode = None
    except OSError as error:
        raise _refused(path, error) from error
    if mode is not None and not clobber:
        raise UsageError(f"{path}: is there already, and --no-clobber was given")
    return _Atomic(path, digest)


def _refused(path: str, error: OSError) -> LbrError:
    """The error for a file that cannot be written: a full disk may have room tomorrow, a missing folder will not."""
    message = f"{path}: cannot be written: {error.strerror or error}"
    return RunError(message) if error.errno in PASSING else UsageError(message)


def _failed(path: str, error: OSError) -> RunError:
    return RunError(f"{path}: cannot be written: {error.strerror or error}")


def _sink(path: str, file: Any) -> Any:
    """`file`, or what compresses into it."""
    if path.endswith(".gz"):  # no name and no time in the header: the same results are the same bytes
        return gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0)
    if path.endswith(".zst"):
        return zstandard.ZstdCompressor().stream_writer(file, closefd=False)
    return file


class _Descriptor(io.RawIOBase):
    """Writes everything it is given, also where a descriptor takes it bit by bit or says "not now"."""

    def __init__(self, number: int, digest: Any) -> None:
        self._number = number
        self._digest = digest

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest:
            try:
                rest = rest[os.write(self._number, rest) :]
            except BlockingIOError:
                select.select([], [self._number], [])
        if self._digest is not None:
            self._digest.update(data)
        return size


class _Told:
    """A file that tells a digest what is written into it."""

    def __init__(self, file: IO[bytes], digest: Any) -> None:
        self._file = file
        self._digest = digest
        self.flush = file.flush

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return self._file.write(data)


class _Straight:
    """A stream that cannot be taken back."""

    def __init__(self, number: int, name: str, digest: Any, *, close: bool) -> None:
        self._number = number
        self._name = name
        self._close = close
        self._file = _Descriptor(number, digest)
        self._sink: Any = None

    def write(self, data: bytes) -> None:
        try:
            self._sink = self._sink or _sink(self._name, self._file)
            self._sink.write(data)
            self._sink.flush()
        except BrokenPipeError:
            raise ReaderGone from None
        except OSError as error:
            raise _failed(self._name, error) from error

    def finish(self) -> None:
        sink, self._sink = self._sink, None
        try:
            if sink not in (None, self._file):
                sink.close()
        except BrokenPipeError:
            raise ReaderGone from None
        except OSError as error:
            raise _failed(self._name, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.finish()
            if self._close:
                os.close(self._number)
        except BrokenPipeError:
            raise ReaderGone from None
        except OSError as problem:
            raise _failed(self._name, problem) from problem


class _Atomic:
    """A regular file, published by renaming when it is complete."""

    def __init__(self, path: str, digest: Any) -> None:
        self._name = path
        self._target = os.path.realpath(path)
        self._folder, base = os.path.split(self._target)
        self._temporary = os.path.join(self._folder, f".{base}.lbr-tmp")
        try:
            self._file = self._take()
        except OSError as error:
            raise _refused(path, error) from error
        self._out: Any = self._file if digest is None else _Told(self._file, digest)
        self._sink = _sink(path, self._out)
        self._finished = False

    def _take(self) -> io.BufferedWriter:
        """The temporary file, ours alone: one that a killed run left is taken over, one in use is refused.

        Nobody else may read it before it has the mode of the file that it becomes; a link or a pipe of its name is
        not ours to follow.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        while True:
            file = os.fdopen(os.open(self._temporary, flags, 0o600), "wb")
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                file.close()
                raise UsageError(f"{self._name}: {self._temporary} is in the way")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise RunError(f"{self._name}: another lbr is writing this file") from None
            try:
                ours = os.path.samestat(status, os.stat(self._temporary))
            except FileNotFoundError:
                ours = False
            if ours:
                file.truncate(0)
                return file
            file.close()  # its owner renamed it between our opening and our locking

    def write(self, data: bytes) -> None:
        try:
            self._sink.write(data)
        except OSError as error:
            raise _failed(self._name, error) from error

    def finish(self) -> None:
        try:
            self._finish()
        except OSError as error:
            raise _failed(self._name, error) from error

    def _finish(self) -> None:
        if self._finished:
            return
        if self._sink is not self._out:
            self._sink.close()
        self._file.flush()
        number = self._file.fileno()
        try:
            old = os.stat(self._target)
        except FileNotFoundError:
            umask = os.umask(0)
            os.umask(umask)
            os.fchmod(number, 0o666 & ~umask)
        else:
            if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                self._keep_owner(old.st_uid, old.st_gid)
            os.fchmod(number, stat.S_IMODE(old.st_mode))
        os.fsync(number)
        self._finished = True

    def _publish(self) -> None:
        self._finish()
        os.rename(self._temporary, self._target)
        with contextlib.suppress(OSError):  # it is published; not every folder can be opened and synced
            folder = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _keep_owner(self, user: int, group: int) -> None:
        """Only root gives files away; others keep at least the group where they are in it."""
        try:
            os.fchown(self._file.fileno(), user, group)
        except PermissionError:
            if group in os.getgroups():
                os.fchown(self._file.fileno(), -1, group)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        published = False
        try:
            if kind is None:
                self._publish()
                published = True
        except OSError as problem:
            raise _failed(self._name, problem) from problem
        finally:
            if not published:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._temporary)
            # what a full disk refused stays in the buffer; closing the raw file keeps it from being tried again
            self._file.raw.close()
