"""Queries in TSV: an id and a text, or the columns of a TREC set as `ir_datasets export` writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lbr_cli.core import Query
from lbr_cli.errors import InputError, UsageError
from lbr_cli.formats.files import CarriageReturns, Numbered, decoded, split_columns
from lbr_cli.formats.topic import DEFAULT, FIELDS

STANDARD = ("id", "title", "description", "narrative")
TEXTS = ("title", "text", "query")  # names of the column that holds the query; the first that is present is used

Rows = list[tuple[int, str]]  # lines with their numbers


def read_columns(
    lines: Numbered, name: str, topic_field: str | None, columns: tuple[str, ...] | None, warn: Callable[[str], None]
) -> Iterator[tuple[int, Query]]:
    """Yield the queries of a TSV file with the numbers of their lines.

    `columns` names the columns; the last one is the rest of the line. Without it: if all lines have the same number of
    columns, and more than two, they are those of STANDARD. Otherwise there are two. `topic_field` is the column that
    holds the query, by default the title. `warn` is called if columns are ignored or joined without an option.
    """
    rows = _decoded(lines, name)
    widths = {text.count("\t") + 1 for _, text in rows}
    if columns is None:
        if len(widths) != 1 or max(widths) < 3:
            if topic_field is not None:
                raise _no_effect(name, widths)
            yield from _pairs(rows, name, warn)
            return
        columns = (*STANDARD, *(f"column {number}" for number in range(5, max(widths) + 1)))[: max(widths)]
        if topic_field is None:
            others = "column 3 is" if len(columns) == 3 else f"columns 3 to {len(columns)} are"
            choice = "choose with --topic-field or --query-columns"
            warn(f"{name}: {len(columns)} columns; the query is column 2, the title, and {others} not read; {choice}")
    id_index, text_index = columns.index("id"), _text_index(columns, topic_field, name)
    for number, line in rows:
        row = split_columns(line, columns, name, number)
        yield number, Query(row[id_index], row[text_index])


def _decoded(lines: Numbered, name: str) -> Rows:
    rows: Rows = []
    returns = CarriageReturns(name, lambda part: (b"\t" if "\t" in rows[0][1] else b" ") in part.strip(b" "))
    for number, data in lines:
        rows.append((number, decoded(data, name, number)))
        if b"\r" in data:
            returns.check(data, number)
    returns.finish(len(rows))
    return rows


def _pairs(rows: Rows, name: str, warn: Callable[[str], None]) -> Iterator[tuple[int, Query]]:
    separator = "\t" if "\t" in rows[0][1] else " "
    for number, line in rows:
        query_id, blank, text = line.partition(separator)
        if not blank:
            what = "a tab" if separator == "\t" else "a tab or a blank"
            raise InputError(f"a query line is an id, {what} and the text; there is none here", name, number)
        yield number, Query(query_id, text)
    joined = [number for number, text in rows if text.count("\t") > 1]
    if joined and separator == "\t":
        what = f"{len(joined)} of {len(rows)} lines have more than two columns, which are joined"
        warn(f"{name}:{joined[0]}: {what} to one query text; name the columns with --query-columns")


def _text_index(columns: tuple[str, ...], topic_field: str | None, name: str) -> int:
    """Return the index of the column that holds the query. UsageError if there is none."""
    names = TEXTS if topic_field is None else (topic_field, *FIELDS.get(topic_field.lower(), ()))
    others = [column for column in columns if column != "id"]
    if topic_field is None and len(others) == 1:
        return columns.index(others[0])
    column = next((column for column in names if column in others), None)
    if column is None:
        hint = f"the columns are {', '.join(columns)}; choose one with --topic-field"
        raise UsageError(f"{name} has no column {topic_field or DEFAULT}", hint=hint)
    return columns.index(column)


def _no_effect(name: str, widths: set[int]) -> UsageError:
    if max(widths) < 3:
        return UsageError(f"--topic-field has no effect: {name} has two columns, an id and a text")
    counts = ", ".join(map(str, sorted(widths)))
    message = f"--topic-field has no effect: the lines of {name} have different numbers of columns ({counts})"
    return UsageError(message, hint="name the columns with --query-columns; the last one takes the rest of the line")
