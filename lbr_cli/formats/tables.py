"""Tables: Parquet files, Arrow files (Feather) and Arrow streams, read with pyarrow as JSON lines.

A row becomes a line, so the readers of JSONL read tables with the same checks. The line in a message is the number of
the row, from 1. Rows are read batch by batch, and only the columns that a reader names.
"""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from lbr_cli.errors import PASSING, InputError, MissingError, first_line, read_error
from lbr_cli.formats.binary import ARROW_STREAM, PARQUET, Kind, conversion_hint
from lbr_cli.formats.compression import Contents
from lbr_cli.formats.files import STDIN
from lbr_cli.formats.table_rows import json_lines
from lbr_cli.formats.text_stream import ChunkStream

if TYPE_CHECKING:
    import pyarrow

EXTENSIONS = (".parquet", ".arrow")
PRIVATE = (".", "_", "cache-")  # prefixes of hidden files, of Spark's metadata and of the cache of `datasets`
BATCH_BYTES = 16 << 20
BATCH_ROWS = 4096
BUFFER = 1 << 20  # bytes of a column that are read at once


@dataclass(frozen=True, slots=True)
class TableColumns:
    """The columns that a reader uses: at least one of each tuple in `needed`, and those in `optional`.

    A dotted name is a path into structs. If a needed column is not found, all columns are read, so that a message can
    name them.
    """

    needed: tuple[tuple[str, ...], ...]
    optional: tuple[str, ...] = ()


def shards(path: str) -> list[str]:
    """Return the sorted .parquet and .arrow files of a folder and its subfolders; the path itself if it is a file.

    Links to folders are followed. InputError for a folder that cannot be read, and for one without such files.
    """
    if path == STDIN or not os.path.isdir(path):
        return [path]
    files = [os.path.join(folder, name) for folder, names in _folders(path) for name in names if _is_shard(name)]
    if not files:
        raise InputError(f"is a folder without {' and '.join(EXTENSIONS)} files", path)
    return sorted(files)


def _folders(path: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (path, file names) of a folder and its subfolders, each folder once, even if links lead to it."""
    seen = set()
    for folder, subfolders, names in os.walk(path, onerror=_refuse_unreadable, followlinks=True):
        status = os.stat(folder)
        identity = (status.st_dev, status.st_ino)
        if identity in seen:
            subfolders.clear()
            continue
        seen.add(identity)
        subfolders.sort()
        yield folder, names


def _refuse_unreadable(error: OSError) -> None:
    """Raise InputError for a folder, whose files would be lost in silence."""
    raise read_error(error.filename, error, InputError) from error


def _is_shard(name: str) -> bool:
    return name.endswith(EXTENSIONS) and not name.startswith(PRIVATE)


def table_lines(contents: Contents, kind: Kind, columns: TableColumns | None) -> Iterator[bytes]:
    """Return the rows of a table as chunks of JSON lines, with the `columns` or all.

    Raises MissingError without pyarrow. The iterator raises InputError, with the row, for a value that is not JSON, and
    for a table that is damaged.
    """
    try:
        import_module("pyarrow")
    except ImportError as error:
        hint = f"install it: pip install 'lbr-cli[parquet]'; or {conversion_hint(kind, contents.name)}"
        raise MissingError(f"{contents.name}: is {kind.noun}, and pyarrow is not installed", hint=hint) from error
    return _lines(contents, kind, columns)


def _lines(contents: Contents, kind: Kind, columns: TableColumns | None) -> Iterator[bytes]:
    import pyarrow as pa

    batches = {PARQUET: _parquet, ARROW_STREAM: _arrow_streams}.get(kind, _arrow_file)
    row = 1
    try:
        for batch in batches(contents, columns):
            size = _batch_rows(batch.nbytes, batch.num_rows)
            for start in range(0, batch.num_rows, size):
                yield from json_lines(batch.slice(start, size), contents.name, row + start)
            row += batch.num_rows
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in PASSING:
            raise read_error(contents.name, error, InputError) from error
        message = f"the data of {kind.noun.partition(' ')[2]} is damaged or unsupported: {first_line(error)}"
        raise InputError(message, contents.name, hint="create or copy the file again") from error


def _batch_rows(size: int, rows: int) -> int:
    """Return how many rows have about BATCH_BYTES if `rows` have `size` bytes."""
    return max(1, min(BATCH_ROWS, BATCH_BYTES * rows // max(size, 1)))


def _parquet(contents: Contents, columns: TableColumns | None) -> Iterator[pyarrow.RecordBatch]:
    from pyarrow.parquet import ParquetFile

    with contents.seekable() as file:
        # pages are read one by one, so that memory does not grow with the size of a row group
        table = ParquetFile(file, buffer_size=BUFFER, pre_buffer=False, page_checksum_verification=True)
        metadata = table.metadata
        size = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
        paths = _selected(table.schema_arrow, columns, contents.name)
        rows = _batch_rows(size, metadata.num_rows)
        yield from table.iter_batches(batch_size=rows, columns=paths, use_threads=False)


def _arrow_file(contents: Contents, columns: TableColumns | None) -> Iterator[pyarrow.RecordBatch]:
    from pyarrow import ipc

    with contents.seekable() as file:
        schema = ipc.open_file(file).schema
        options = ipc.IpcReadOptions(included_fields=_indices(schema, columns, contents.name))
        table = ipc.open_file(file, options=options)
        for index in range(table.num_record_batches):
            yield table.get_batch(index)


def _arrow_streams(contents: Contents, columns: TableColumns | None) -> Iterator[pyarrow.RecordBatch]:
    """Yield the batches of a stream, or of several one after the other."""
    from pyarrow import ipc

    file = _LastRead(ChunkStream(contents.name, iter(contents), contents.close), BUFFER)
    while file.peek(1):
        table = ipc.open_stream(file)
        indices = _indices(table.schema, columns, contents.name)
        for batch in table:
            yield batch.select(indices)
        if not file.last:
            hint = "close the writer of the stream, which writes the mark"
            raise InputError("the Arrow stream is cut off: it has no end-of-stream mark", contents.name, hint=hint)


class _LastRead(io.BufferedReader):
    """Keeps the bytes of the last read: the end-of-stream mark of an Arrow stream, or b"" if it has none."""

    last = b""

    def read(self, size: int | None = -1, /) -> bytes:
        self.last = super().read(size)
        return self.last


def _indices(schema: pyarrow.Schema, columns: TableColumns | None, file: str) -> list[int]:
    """Return the indices of the columns to read."""
    paths = _selected(schema, columns, file)
    tops = schema.names if paths is None else {_top(schema, path) for path in paths}
    return [schema.get_field_index(name) for name in schema.names if name in tops]


def _selected(schema: pyarrow.Schema, columns: TableColumns | None, file: str) -> list[str] | None:
    """Return the names of the columns to read, or paths into structs; None for all. InputError for a repeated name."""
    paths = None
    if columns is not None and all(any(_holds(schema, name) for name in names) for names in columns.needed):
        every = dict.fromkeys([*itertools.chain.from_iterable(columns.needed), *columns.optional])
        paths = sorted(filter(partial(_holds, schema), every), key=lambda path: schema.names.index(_top(schema, path)))
    tops = schema.names if paths is None else [_top(schema, path) for path in paths]
    repeated = next((name for name in tops if schema.names.count(name) > 1), None)
    if repeated is not None:
        raise InputError(f'has several columns "{repeated}"', file, hint="rename all but one of them")
    return paths


def _holds(schema: pyarrow.Schema, path: str) -> bool:
    """Return whether a table has a column of this name, or a field at this path in a struct."""
    if path in schema.names:
        return True
    first, *rest = path.split(".")
    if first not in schema.names or not rest:
        return False
    type_ = schema.field(schema.names.index(first)).type
    for name in rest:
        if not hasattr(type_, "get_field_index") or (index := type_.get_field_index(name)) < 0:
            return False
        type_ = type_.field(index).type
    return True


def _top(schema: pyarrow.Schema, path: str) -> str:
    """Return the column that holds the value at a path."""
    return path if path in schema.names else path.partition(".")[0]
