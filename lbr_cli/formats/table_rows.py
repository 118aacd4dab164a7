"""The rows of a table as JSON lines.

Integers, floats, strings, booleans, lists and structs become the same types of JSON. Dictionary-encoded columns become
their values, binary data has to be UTF-8 text, dates and times become strings, and maps become objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import orjson

from lbr_cli.errors import InputError, first_line

if TYPE_CHECKING:
    import pyarrow


def json_lines(batch: pyarrow.RecordBatch, file: str, row: int) -> Iterator[bytes]:
    """Yield the rows of a batch that begins at row `row` of `file`. InputError for a value that is not JSON."""
    import pyarrow as pa

    try:
        yield _lines(batch)
    except (pa.ArrowException, ValueError, TypeError) as error:
        if batch.num_rows == 1:
            raise InputError(_problem(batch, error), file, row) from error
        for index in range(batch.num_rows):
            yield from json_lines(batch.slice(index, 1), file, row + index)


def _lines(batch: pyarrow.RecordBatch) -> bytes:
    names = batch.schema.names
    values = [_values(column) for column in batch.columns]
    rows = zip(*values, strict=True) if values else [()] * batch.num_rows
    options = orjson.OPT_APPEND_NEWLINE
    return b"".join(orjson.dumps(dict(zip(names, row, strict=True)), _as_json, options) for row in rows)


def _problem(batch: pyarrow.RecordBatch, error: Exception) -> str:
    """Return why a row is not JSON, with the name of the invalid column if there is one."""
    import pyarrow as pa

    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            orjson.dumps(_values(column), _as_json)
        except UnicodeDecodeError:
            return f'"{name}" is not UTF-8'
        except (pa.ArrowException, ValueError, TypeError) as cause:
            return f'"{name}", of type {column.type}: {first_line(cause)}'
    return first_line(error)


def _values(column: pyarrow.Array) -> list[Any]:
    """Return the values of a column. Raises ValueError for NaN and infinity, which are not JSON."""
    import pyarrow.compute as pc
    from pyarrow import types

    type_ = _json_type(column.type)
    column = column if type_ == column.type else pc.cast(column, type_)
    if not _is_finite(column):
        raise ValueError("NaN and infinity are not JSON; use null")
    # without the argument, which only maps need, this is ten times as fast
    values: list[Any] = column.to_pylist(maps_as_pydicts="strict") if types.is_nested(type_) else column.to_pylist()
    return values


def _json_type(type_: pyarrow.DataType) -> pyarrow.DataType:
    """Return the Arrow type to cast a column to, so that its values are JSON."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_temporal(type_):
        return pa.string()
    if types.is_binary(type_) or types.is_large_binary(type_) or types.is_fixed_size_binary(type_):
        return pa.large_string()
    if types.is_binary_view(type_):
        return pa.string_view()
    if types.is_float16(type_):
        return pa.float32()
    if types.is_struct(type_):
        return pa.struct([field.with_type(_json_type(field.type)) for field in type_])
    if types.is_list(type_):
        return pa.list_(type_.value_field.with_type(_json_type(type_.value_type)))
    if types.is_large_list(type_):
        return pa.large_list(type_.value_field.with_type(_json_type(type_.value_type)))
    return type_


def _is_finite(column: pyarrow.Array) -> bool:
    import pyarrow.compute as pc
    from pyarrow import types

    if types.is_dictionary(column.type):
        return _is_finite(column.dictionary)
    if types.is_floating(column.type):
        return not pc.any(pc.invert(pc.is_finite(column))).as_py()
    if types.is_struct(column.type):
        return all(_is_finite(values) for values in column.flatten())
    if types.is_map(column.type):
        start, end = column.offsets[0].as_py(), column.offsets[-1].as_py()
        return _is_finite(column.items.slice(start, end - start))
    if types.is_nested(column.type) and hasattr(column, "flatten"):
        return _is_finite(column.flatten())
    return True


def _as_json(value: object) -> Any:
    """Return a value of a type that orjson does not support in a form that it does. TypeError if there is none."""
    if isinstance(value, Decimal) and value.is_finite():
        return orjson.Fragment(str(value))
    if isinstance(value, bytes):
        return value.decode()
    raise TypeError(f"{type(value).__name__} is not JSON")
