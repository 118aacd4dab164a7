"""Queries files: JSONL and tables (`_id/id/query_id/qid`, `text/query`), TSV, `id BLANK text`, or TREC topics."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Container, Iterator
from typing import NamedTuple

from lbr_cli.core import Query
from lbr_cli.errors import InputError, UsageError
from lbr_cli.formats.files import CarriageReturnError, CarriageReturns, Numbered, decoded, numbered, split_columns
from lbr_cli.formats.json_lines import INSTRUCTION, Record, add_nested, bad_type, first_key, is_json, json_object
from lbr_cli.formats.tables import TableColumns
from lbr_cli.formats.topics import DEFAULT, read_topics
from lbr_cli.formats.topics import FIELDS as TOPIC_FIELDS

IDS = ("_id", "id", "query_id", "qid")
TEXTS = ("text", "query")
STANDARD = ("id", "title", "description", "narrative")
TEXT_COLUMNS = ("title", "text", "query")  # names of the column that holds the query; the first that is present is used
SEPARATED = re.compile(rb"\r[ \t]*<")  # tags on lines that end in a carriage return

Warn = Callable[[str], None]
Parsed = Iterator[tuple[int, Query]]  # queries with the numbers of their lines


class QueryLine(NamedTuple):
    """A query and the number of its line. The text is None only if the query is not wanted."""

    number: int
    query: Query


class _All:
    """Contains every id."""

    def __contains__(self, _: object) -> bool:
        return True


def table_columns(topic_field: str | None = None) -> TableColumns:
    """Return the columns to read of a table of queries."""
    return TableColumns((IDS, _text_keys(topic_field)), optional=(INSTRUCTION,))


def read_queries(
    stream: io.BufferedReader,
    topic_field: str | None = None,
    *,
    columns: tuple[str, ...] | None = None,
    wanted: Container[str] | None = None,
    warn: Warn = lambda _: None,
) -> dict[str, QueryLine]:
    """Return the queries of a file by id, in its order.

    `topic_field` is the field that holds the query: a field of topics, a key of JSONL, or a column of a table or of
    TSV. `columns` names the columns of TSV. Only queries in `wanted` (default: all) need a text. Raises InputError,
    with file and line, for an invalid line and for an id with two texts; UsageError for an option without effect.
    """
    name = stream.name
    wanted = _All() if wanted is None else wanted
    lines: Iterator[tuple[int, bytes]] = numbered(stream)
    first = next(lines, None)
    if first is None:
        return {}
    lines = itertools.chain([first], lines)
    kind = "TREC topics" if first[1].lstrip(b" \t").startswith(b"<") else "JSONL" if is_json(first[1]) else "TSV"
    if columns is not None and kind != "TSV":
        raise UsageError(f"--query-columns has no effect: {name} is not TSV")
    if kind == "TREC topics":
        parsed = _from_topics(lines, name, topic_field or DEFAULT, wanted, warn)
    elif kind == "JSONL":
        parsed = _from_json(lines, name, _text_keys(topic_field), wanted)
    else:
        parsed = _from_columns(lines, name, topic_field, columns, warn)
    queries: dict[str, QueryLine] = {}
    for number, query in parsed:
        known = queries.setdefault(query.query_id, QueryLine(number, query))
        if known.query.text != query.text and query.query_id in wanted:
            raise InputError(f"query {query.query_id} has another text at {name}:{known.number}", name, number)
        if known.query.instruction != query.instruction:
            raise InputError(f"query {query.query_id} has another instruction at {name}:{known.number}", name, number)
    return queries


def _text_keys(topic_field: str | None) -> tuple[str, ...]:
    return TEXTS if topic_field is None else (topic_field,)


def _from_topics(lines: Numbered, name: str, topic_field: str, wanted: Container[str], warn: Warn) -> Parsed:
    text: list[str] = []
    for number, data in lines:
        if SEPARATED.search(data):
            raise CarriageReturnError(name, number)
        text += ["\n"] * (number - 1 - len(text))  # blank lines, so that line numbers are correct
        text.append(decoded(data, name, number) + "\n")
    topics = list(read_topics("".join(text), name))
    for topic in topics:
        if query_id := topic.number:
            text_or_none = topic.text(topic_field, name) if query_id in wanted else topic.find(topic_field)
            yield topic.line, Query(query_id, text_or_none)
    without_id = [topic.line for topic in topics if not topic.number]
    if without_id and (len(without_id) == len(topics) or isinstance(wanted, _All)):
        raise InputError("a topic without a number", name, without_id[0])
    if without_id:
        count = f"{len(without_id)} of {len(topics)}"
        warn(f"{name}:{without_id[0]}: a topic without a number; {count} topics are left out")


def _from_json(lines: Numbered, name: str, texts: tuple[str, ...], wanted: Container[str]) -> Parsed:
    nested = [path for path in texts if "." in path]
    for number, data in lines:
        values = json_object(data, name, number)
        add_nested(values, nested)
        record = Record(values, name, number)
        query_id, text_key = record.id(IDS), first_key(texts, values)
        if query_id is None:
            raise record.error(f"no query id ({', '.join(IDS)})")
        text = values[text_key] if text_key else None
        instruction = (None, "") if text_key == INSTRUCTION else record.instruction()
        if isinstance(text, str) or query_id not in wanted:
            yield number, Query(query_id, text if isinstance(text, str) else None, *instruction)
        elif text_key is None:
            keys = ", ".join(key for key in values if key != first_key(IDS, values))
            hint = f"name the key with --topic-field; the line has {keys}" if keys else ""
            raise record.error(f"no query text ({', '.join(texts)})", hint)
        else:
            raise record.error(bad_type(text_key, "a string", text))


def _from_columns(
    lines: Numbered, name: str, topic_field: str | None, columns: tuple[str, ...] | None, warn: Warn
) -> Parsed:
    """Yield the queries of a TSV file with the numbers of their lines.

    `columns` names the columns; the last one is the rest of the line. If it is None, the columns are those of STANDARD
    if all lines have the same number of columns, more than two; otherwise an id and a text. `topic_field` is the column
    that holds the query, by default the title. `warn` is called if columns are ignored or joined without an option.
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


def _decoded(lines: Numbered, name: str) -> list[tuple[int, str]]:
    rows: list[tuple[int, str]] = []
    returns = CarriageReturns(name, lambda part: (b"\t" if "\t" in rows[0][1] else b" ") in part.strip(b" "))
    for number, data in lines:
        rows.append((number, decoded(data, name, number)))
        if b"\r" in data:
            returns.check(data, number)
    returns.finish(len(rows))
    return rows


def _pairs(rows: list[tuple[int, str]], name: str, warn: Warn) -> Parsed:
    separator = "\t" if "\t" in rows[0][1] else " "
    for number, line in rows:
        query_id, blank, text = line.partition(separator)
        if not blank:
            needed = "tab" if separator == "\t" else "tab or blank"
            raise InputError(f"a query line is an id, a {needed} and the text; this line has no {needed}", name, number)
        yield number, Query(query_id, text)
    joined = [number for number, text in rows if text.count("\t") > 1]
    if joined and separator == "\t":
        what = f"{len(joined)} of {len(rows)} lines have more than two columns, which are joined"
        warn(f"{name}:{joined[0]}: {what} into one query text; name the columns with --query-columns")


def _text_index(columns: tuple[str, ...], topic_field: str | None, name: str) -> int:
    """Return the index of the column that holds the query. UsageError if there is none."""
    names = TEXT_COLUMNS if topic_field is None else (topic_field, *TOPIC_FIELDS.get(topic_field.lower(), ()))
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
