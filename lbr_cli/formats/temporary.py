"""The temporary file of an output: its name, its creation, its lock.

The name depends only on the name of the output, so the next job replaces the file that a killed job left. A lock
(flock) distinguishes such a leftover from a file that another job is writing. No content is written to an existing
file: it is unlinked and created again with O_EXCL, so links and files of other users are never followed or reused.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat

from lbr_cli.errors import RunError, UsageError
from lbr_cli.formats.sinks import Warn

ENDING = ".lbr-tmp"
NAME_MAX = 255  # bytes, on most file systems
FOREIGN = "remove it if no job is writing it"
ATTEMPTS = 100  # each fails only if another process creates or removes the same file at that moment


def temporary_path(target: str) -> str:
    """Return the path of the temporary file for `target`: `.NAME.lbr-tmp` in the same folder.

    If that name is too long, NAME is replaced by a hash.
    """
    folder, base = os.path.split(target)
    name = f".{base}{ENDING}"
    longest = NAME_MAX
    with contextlib.suppress(OSError, ValueError):
        longest = os.pathconf(folder, "PC_NAME_MAX")
    if len(os.fsencode(name)) > longest:
        name = f".{hashlib.sha256(os.fsencode(base)).hexdigest()[:32]}{ENDING}"
    return os.path.join(folder, name)


def create(path: str, mode: int, name: str, warn: Warn) -> int:
    """Create the temporary file `path` of the output `name`, lock it, and return its descriptor.

    Warns if the file system has no locks. Raises RunError if another job is writing the file, UsageError if an existing
    file of this name cannot be removed, and OSError if the file cannot be created. No file is left after an error.
    """
    for _ in range(ATTEMPTS):
        try:
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        except FileExistsError:
            _remove_leftover(path, name)
            continue
        try:
            locked = _lock(number)
            if is_same_file(number, path):
                if not locked:
                    warn(f"{name}: the file system has no locks, so two jobs that write this file are not detected")
                return number
        except BlockingIOError:  # another job considers the file a leftover and is about to remove it
            pass
        except BaseException:
            remove(number, path)
            os.close(number)
            raise
        os.close(number)
    raise RunError(f"{name}: another lbr process is writing this file")


def remove(number: int, path: str) -> None:
    """Remove `path` if it still is the file open as `number`."""
    with contextlib.suppress(OSError):
        if is_same_file(number, path):
            os.unlink(path)


def is_same_file(number: int, path: str) -> bool:
    """Return whether `path` is the file open as `number`."""
    try:
        return os.path.samestat(os.fstat(number), os.lstat(path))
    except FileNotFoundError:
        return False


def _lock(number: int) -> bool:
    """Lock a file; return False if its file system has no locks. BlockingIOError if another process holds the lock."""
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # ENOSYS (Lustre), ENOLCK (NFS without a lock daemon), EOPNOTSUPP, EINVAL (FUSE), …
        return False
    return True


def _remove_leftover(path: str, name: str) -> None:
    """Remove the temporary file of a killed job. RunError if a job is writing it, UsageError if it cannot be removed.

    Another user's file is removed only if its lock shows that no job is writing it.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{name}: cannot be written: {path} exists and is not a regular file", hint="remove it")
    denied = f"{name}: cannot be written: permission denied to replace {path}, which belongs to user {status.st_uid}"
    number = None
    try:
        number = _open_leftover(path)
        locked = number is not None and _lock(number)
        if not locked and status.st_uid != os.geteuid():
            raise UsageError(denied, hint=FOREIGN)
        if number is None or is_same_file(number, path):
            os.unlink(path)
    except FileNotFoundError:
        return
    except BlockingIOError:
        raise RunError(f"{name}: another lbr process is writing this file") from None
    except OSError as error:
        raise UsageError(denied, hint=FOREIGN) from error
    finally:
        if number is not None:
            os.close(number)


def _open_leftover(path: str) -> int | None:
    """Open a file in order to lock it; None without permission. NFS locks only files that are open for writing."""
    for access in (os.O_WRONLY, os.O_RDONLY):
        with contextlib.suppress(PermissionError):
            return os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK)
    return None
