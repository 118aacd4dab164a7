"""Bytes out: standard output, or a file that appears only when it is whole.

A regular file is written beside its place as `.NAME.lbr-tmp`, synced and renamed over what was there; until then the
old one stands. A device or a pipe is written straight. What the bytes say is the business of the other modules here.
"""

from __future__ import annotations

import errno
import fcntl
import gzip
import io
import os
import stat
import sys
from types import TracebackType
from typing import IO, Any, Protocol, Self

import zstandard

from lbr_cli.errors import LbrError, RunError, UsageError

STDOUT = "-"
PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}


class ReaderGone(Exception):
    """Who reads our output has seen enough, as `head` does: no error, but there is nothing left to do."""


class Output(Protocol):
    """Where results go. Leaving its `with` block without an exception publishes what was written."""

    def write(self, data: bytes) -> None: ...

    def flush(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def _refused(path: str, error: OSError) -> LbrError:
    """The error for a file that cannot be written: a full disk may have room tomorrow, a missing folder will not."""
    message = f"{path}: cannot be written: {error.strerror or error}"
    return RunError(message) if error.errno in PASSING else UsageError(message)


def open_output(path: str, *, clobber: bool = True) -> Output:
    """The output that `path` names; `-` is standard output.

    Raises UsageError where nothing can be written there, or where something stands and `clobber` is False, and
    RunError where another process is writing the same file.
    """
    if path == STDOUT:
        if sys.stdout is None:
            raise RunError("standard output is closed")
        return _Straight(sys.stdout.buffer, "standard output", close=False)
    target = os.path.realpath(path)
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        mode = None
    except OSError as error:
        raise _refused(path, error) from error
    if mode is not None and not stat.S_ISREG(mode):
        try:
            return _Straight(open(target, "wb"), path, close=True)
        except OSError as error:
            raise _refused(path, error) from error
    if mode is not None and not clobber:
        raise UsageError(f"{path}: is there already, and --no-clobber was given")
    return _Atomic(path, target)


class _Straight:
    """A stream that cannot be taken back."""

    def __init__(self, file: IO[bytes], name: str, *, close: bool) -> None:
        self._file = file
        self._name = name
        self._close = close

    def write(self, data: bytes) -> None:
        self._try(self._file.write, data)

    def flush(self) -> None:
        self._try(self._file.flush)

    def _try(self, call: Any, *arguments: bytes) -> None:
        try:
            call(*arguments)
        except BrokenPipeError:
            raise ReaderGone from None
        except OSError as error:
            raise RunError(f"{self._name}: cannot be written: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.flush()
        if self._close:
            self._try(self._file.close)


class _Atomic:
    """A regular file, published by renaming when it is complete."""

    def __init__(self, path: str, target: str) -> None:
        self._name = path
        self._target = target
        self._folder, base = os.path.split(target)
        self._temporary = os.path.join(self._folder, f".{base}.lbr-tmp")
        try:
            self._file = self._take()
        except OSError as error:
            raise _refused(path, error) from error
        self._sink: Any = self._file
        if path.endswith(".gz"):  # no name and no time in the header: the same results are the same bytes
            self._sink = gzip.GzipFile(filename="", mode="wb", fileobj=self._file, mtime=0)
        elif path.endswith(".zst"):
            self._sink = zstandard.ZstdCompressor().stream_writer(self._file, closefd=False)

    def _take(self) -> io.BufferedWriter:
        """The temporary file, ours alone: one that a killed run left is taken over, one in use is refused."""
        while True:
            file = open(self._temporary, "ab")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise RunError(f"{self._name}: another lbr is writing this file") from None
            try:
                ours = os.path.samestat(os.fstat(file.fileno()), os.stat(self._temporary))
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
            raise RunError(f"{self._name}: cannot be written: {error.strerror}") from error

    def flush(self) -> None:
        """Nothing to do: nobody sees the file before it is whole."""

    def _publish(self) -> None:
        if self._sink is not self._file:
            self._sink.close()
        self._file.flush()
        try:
            old = os.stat(self._target)
        except FileNotFoundError:
            umask = os.umask(0)
            os.umask(umask)
            os.fchmod(self._file.fileno(), 0o666 & ~umask)
        else:
            if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                self._keep_owner(old.st_uid, old.st_gid)
            os.fchmod(self._file.fileno(), stat.S_IMODE(old.st_mode))
        os.fsync(self._file.fileno())
        os.rename(self._temporary, self._target)
        folder = os.open(self._folder or ".", os.O_RDONLY)
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
        try:
            if kind is None:
                self._publish()
            else:
                os.unlink(self._temporary)
        except OSError as problem:
            raise RunError(f"{self._name}: cannot be written: {problem.strerror}") from problem
        finally:
            # what a full disk refused stays in the buffer; closing the raw file keeps it from being tried again
            self._file.raw.close()
