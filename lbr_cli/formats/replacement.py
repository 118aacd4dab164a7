"""A regular file as output: written under a temporary name in the same folder, synced, and renamed when complete.

The old file stays unchanged until the rename. A file that a rename cannot replace is refused when it is opened, before
anything is computed: writing it in place could publish half a file. If the rename fails nevertheless, the complete
temporary file is kept, and the error names it. On systems other than Linux, a mount point or a sticky folder is noticed
only at the rename.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import Any, Self

from lbr_cli.errors import RunError, UsageError
from lbr_cli.formats.permissions import Permissions
from lbr_cli.formats.sinks import Warn, compressed, open_error, write_errors
from lbr_cli.formats.temporary import create, is_same_file, remove, temporary_path

NO_SYNC = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EROFS}
ELSEWHERE = "choose a file in another folder, or redirect standard output to this file"
RENAMED = f"a file is replaced by a rename, which needs write permission for its folder; {ELSEWHERE}"


class Replacement:
    """A file that replaces the one at `path` when its `with` block ends without an exception.

    The constructor raises UsageError if the file cannot be created or replaced, RunError if another job is writing it.
    """

    def __init__(self, path: str, warn: Warn, digest: Any) -> None:
        self._name = path
        self._warn = warn
        self._target = os.path.realpath(path)
        self._folder = os.path.dirname(self._target)
        self._temporary = temporary_path(self._target)
        self._finished = self._kept = False
        try:
            self._old = Permissions.of(self._target)
            if self._old and sys.platform == "linux":
                _check_replaceable(self._target, path)
            # a new file gets its mode from the umask or the folder's default ACL; a file that replaces another is
            # private until it has the permissions of the old one
            mode = 0o600 if self._old else 0o666
            self._file = os.fdopen(create(self._temporary, mode, path, warn), "wb")
        except OSError as error:
            hint = RENAMED if os.access(self._target, os.W_OK) else ""
            raise open_error(path, error, hint) from error
        self._sink = compressed(path, self._file, digest)

    def write(self, data: bytes) -> None:
        """Append the results of a query."""
        with write_errors(self._name):
            self._sink.write(data)

    def finish(self) -> None:
        """Write and sync every byte, and set the permissions, so that only the rename is left."""
        if self._finished:
            return
        with write_errors(self._name):
            self._sink.close()
            self._file.flush()
            number = self._file.fileno()
            permissions = Permissions.of(self._target) or self._old  # the old file may have changed or been removed
            if permissions:
                permissions.apply(number, self._name, self._warn)
            self._sync(number)
        self._finished = True

    def _sync(self, number: int) -> None:
        try:
            os.fsync(number)
        except OSError as error:
            if error.errno not in NO_SYNC:
                raise
            self._warn(f"{self._name}: the file system cannot sync files: {error.strerror}")
        os.close(os.dup(number))  # network file systems report some errors only when a descriptor is closed

    def _publish(self) -> None:
        self.finish()
        os.lstat(self._temporary)
        if not is_same_file(self._file.fileno(), self._temporary):
            raise RunError(f"{self._name}: cannot be written: another process replaced {self._temporary}")
        try:
            os.rename(self._temporary, self._target)
        except OSError as error:
            self._kept = os.path.lexists(self._temporary)
            result = f"; the finished result is in {self._temporary}" if self._kept else ""
            raise RunError(f"{self._name}: cannot be replaced: {error.strerror or error}{result}") from error
        with contextlib.suppress(OSError):  # the file is published; not every folder can be synced
            folder = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                with write_errors(self._name):
                    self._publish()
        finally:
            if not self._kept:
                remove(self._file.fileno(), self._temporary)
            with contextlib.suppress(OSError):
                # the buffer may hold bytes that a full disk refused; closing the raw file does not write them again
                self._file.raw.close()


def _check_replaceable(target: str, name: str) -> None:
    """Raise UsageError if a rename cannot replace the existing file `target`, OSError if its folder is read-only.

    Linux checks the right to remove a name before the kind of file, so rmdir fails with ENOTDIR exactly if a rename is
    allowed, and never removes a regular file.
    """
    folder = os.path.dirname(target)
    if _mount_of(target) != _mount_of(folder):
        hint = f"mount its folder instead of the file, {ELSEWHERE}"
        raise UsageError(f"{name}: cannot be replaced: it is a mount point", hint=hint)
    try:
        os.rmdir(target)
    except OSError as error:
        if error.errno == errno.EPERM:
            reason = "another user owns it and its folder is sticky, or it is immutable or append-only"
            raise UsageError(f"{name}: cannot be replaced: {error.strerror}: {reason}", hint=ELSEWHERE) from error
        if error.errno in (errno.EACCES, errno.EROFS):
            raise


def _mount_of(path: str) -> str:
    """Return the id of the mount that holds a path; "" if it is unknown."""
    with contextlib.suppress(OSError):
        number = os.open(path, os.O_PATH)
        try:
            with open(f"/proc/self/fdinfo/{number}", encoding="ascii") as file:
                return next((line for line in file if line.startswith("mnt_id:")), "")
        finally:
            os.close(number)
    return ""
