"""Open and hash the files that a command reads: a file, a pipe or `-` for standard input; plain or compressed."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection
from typing import Any

from lbr_cli.errors import InputError
from lbr_cli.formats.binary import refuse_binary
from lbr_cli.formats.files import STDIN, display_name
from lbr_cli.formats.overwrite import WrittenFiles
from lbr_cli.formats.text_stream import CHUNK, Source, TextStream


class InputFiles:
    """Opens the files that a command reads, and refuses those that it also writes.

    `written` are the files that the command writes. With `hashed`, the sha256 of every byte read is computed.
    """

    def __init__(self, written: WrittenFiles | None = None, *, hashed: bool = False) -> None:
        self._written = written or WrittenFiles()
        self._checked: set[str] = set()
        self._hashed = hashed
        self._digests: list[tuple[str, Any]] = []

    def check(self, role: str, path: str, replaceable_by: Collection[str] = ()) -> None:
        """Raise UsageError if `path`, which is read as `role`, is written by an option not in `replaceable_by`."""
        self._written.check(role, path, replaceable_by)
        self._checked.add(path)

    def open(self, path: str, role: str = "input", *, exact: bool = False) -> io.BufferedReader:
        """Open a file for reading its text as bytes. The `name` of the stream is the file's name in messages.

        `exact` keeps byte-order marks. Raises InputError if the file cannot be read or is not text, and UsageError if
        `check` has not allowed it and the command writes it.
        """
        if path not in self._checked:
            self.check(role, path)
        name = display_name(path)
        digest = hashlib.sha256() if self._hashed else None
        try:
            source = Source(open(0 if path == STDIN else path, "rb", buffering=0, closefd=path != STDIN), digest)
        except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
            raise InputError(f"cannot be read: {getattr(error, 'strerror', None) or error}", name) from error
        try:
            refuse_binary(source.head, name)
        except InputError:
            source.close()
            raise
        if digest:
            self._digests.append((path, digest))
        return io.BufferedReader(TextStream(name, source, exact=exact), CHUNK)

    def digests(self) -> list[tuple[str, str]]:
        """Return (path, sha256) of each file opened so far, in that order."""
        return [(path, digest.hexdigest()) for path, digest in self._digests]
