"""Open and hash the files that a command reads: a file, a pipe or `-` for standard input; plain or compressed.

A table (Parquet or Arrow) is opened as JSON lines, and a folder of tables as one table.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Iterator
from typing import Any

from lbr_cli.errors import InputError, LbrError, read_error
from lbr_cli.formats.binary import refuse_binary
from lbr_cli.formats.compression import CHUNK, Contents, Source
from lbr_cli.formats.files import STDIN, display_name
from lbr_cli.formats.overwrite import WrittenFiles
from lbr_cli.formats.tables import TableColumns, shards, table_lines
from lbr_cli.formats.text_stream import ChunkStream, text_of


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

    def open(
        self, path: str, role: str = "input", *, exact: bool = False, columns: TableColumns | None = None
    ) -> io.BufferedReader:
        """Open a file for reading its text as bytes. The `name` of the stream is the file's name in messages.

        `exact` keeps byte-order marks and refuses tables. `columns` are those to read of a table, by default all.
        Raises InputError if the file cannot be read or is not text, UsageError if the command writes it and
        `check` has not allowed that, and MissingError for a table if pyarrow is not installed.
        """
        files = shards(path)
        if len(files) == 1:
            contents = self._contents(files[0], role)
            chunks = self._chunks(contents, columns, exact=exact)
            stream = ChunkStream(contents.name, chunks, contents.close)
        else:
            chunks = self._chunks_of_shards(files, role, columns)
            stream = ChunkStream(path, chunks, lambda: None)
        return io.BufferedReader(stream, CHUNK)

    def digests(self) -> list[tuple[str, str]]:
        """Return (path, sha256) of each file opened so far, in that order."""
        return [(path, digest.hexdigest()) for path, digest in self._digests]

    def _contents(self, path: str, role: str) -> Contents:
        if path not in self._checked:
            self.check(role, path)
        name = display_name(path)
        digest = hashlib.sha256() if self._hashed else None
        try:
            source = Source(open(0 if path == STDIN else path, "rb", buffering=0, closefd=path != STDIN), digest)
        except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
            raise read_error(name, error, InputError) from error
        if digest:
            self._digests.append((path, digest))
        try:
            return Contents(name, source)
        except LbrError:
            source.close()
            raise

    def _chunks(self, contents: Contents, columns: TableColumns | None, *, exact: bool = False) -> Iterator[bytes]:
        """Return the text of a file, or the rows of a table, in chunks."""
        try:
            if contents.table and not exact:
                return table_lines(contents, contents.table, columns)
            refuse_binary(contents.head, contents.name)
        except BaseException:
            contents.close()
            raise
        return text_of(contents, exact=exact)

    def _chunks_of_shards(self, files: list[str], role: str, columns: TableColumns | None) -> Iterator[bytes]:
        for file in files:
            contents = self._contents(file, role)
            try:
                yield from self._chunks(contents, columns)
            finally:
                contents.close()
