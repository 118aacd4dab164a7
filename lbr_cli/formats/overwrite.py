"""Refuse to write a file that the same command reads, and to write one file twice.

Files are compared by device and inode, so links and other spellings of a path count; files that do not exist yet are
compared by folder and name. The temporary file of an output counts as written. Devices and pipes may be read and
written at the same time.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass

from lbr_cli.errors import UsageError
from lbr_cli.formats.files import STDIN
from lbr_cli.formats.output import STDOUT, descriptor
from lbr_cli.formats.temporary import temporary_path

MAIN = "--output"
PRINTED = "standard output"  # the option name of the text that a command prints


@dataclass(frozen=True, slots=True)
class _Written:
    """An output. `file` identifies its file or descriptor, `temporary` its temporary file; None if it has none."""

    option: str
    label: str
    file: Hashable
    temporary: Hashable


class WrittenFiles:
    """The files that a command writes, by option: "-" is standard output, None an option that is not set.

    Raises UsageError if two of them are the same file.
    """

    def __init__(self, outputs: Mapping[str, str | None] | None = None) -> None:
        self._written: list[_Written] = []
        for option, path in (outputs or {}).items():
            if path is not None:
                self._written.append(self._checked(option, path))

    def _checked(self, option: str, path: str) -> _Written:
        if not path:
            raise UsageError(f"{option}: empty file name")
        number = 1 if path == STDOUT else descriptor(path)
        file, temporary = _identity(path, number), None
        if number is None and file is not None:
            temporary = _identity(temporary_path(os.path.realpath(path)))
        label = PRINTED if path == STDOUT and option in (MAIN, PRINTED) else f"{option} {path}"
        written = _Written(option, label, file or number, temporary)
        names = {written.file, written.temporary} - {None}
        for other in self._written:
            if names & {other.file, other.temporary}:
                raise UsageError(f"{label}: the same file as {other.label}")
        return written

    def check(self, role: str, path: str, replaceable_by: Collection[str] = ()) -> None:
        """Raise UsageError if the input `path`, which is read as `role`, is written.

        An option in `replaceable_by` may replace the input, which is read completely before the rename.
        """
        read = _identity(path, 0 if path == STDIN else descriptor(path))
        what = f"{role} on standard input" if path == STDIN else f"{role} {path}"
        for written in self._written:
            replaced = written.option in replaceable_by and written.temporary is not None
            if read is not None and read in {written.temporary, None if replaced else written.file}:
                raise UsageError(f"{written.label}: would overwrite the {what}")


def _identity(path: str, number: int | None = None) -> Hashable:
    """Return a value that is equal for equal files; None for devices, pipes and paths in a folder that is missing."""
    with contextlib.suppress(OSError, ValueError):
        try:
            status = os.stat(path) if number is None else os.fstat(number)
        except FileNotFoundError:
            folder, name = os.path.split(os.path.realpath(path))
            status = os.stat(folder)
            return status.st_dev, status.st_ino, name
        if stat.S_ISREG(status.st_mode) or stat.S_ISBLK(status.st_mode):
            return status.st_dev, status.st_ino
    return None
