"""Query files: JSONL (`_id/id/query_id/qid`, `text/query`), TSV (id, text), `id BLANK text`, or TREC topics."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Container, Iterable, Iterator
from typing import NamedTuple

from lbr_cli.core import Query
from lbr_cli.errors import InputError, UsageError
from lbr_cli.formats.files import Sums, decoded, display_name, numbered, open_input
from lbr_cli.formats.line_ends import CarriageReturnError
from lbr_cli.formats.query_columns import read_columns
from lbr_cli.formats.records import as_id, is_json, json_kind, json_object
from lbr_cli.formats.topic import DEFAULT
from lbr_cli.formats.topics import read_topics

IDS = ("_id", "id", "query_id", "qid")
TEXTS = ("text", "query")
SEPARATED = re.compile(rb"\r[ \t]*<")  # tags, where a carriage return ends a line

Numbered = Iterable[tuple[int, bytes]]


class QueryLine(NamedTuple):
    """A query and the number of its line. Its text is None if the query is not wanted and has none."""

    number: int
    query: Query


class _Everything:
    """The ids of a caller who wants all queries."""

    def __contains__(self, _: object) -> bool:
        return True


def read_queries(
    path: str,
    topic_field: str | None = None,
    sums: Sums | None = None,
    *,
    columns: tuple[str, ...] | None = None,
    wanted: Container[str] | None = None,
    warn: Callable[[str], None] = lambda _: None,
) -> dict[str, QueryLine]:
    """The queries of a file by their ids, in its order, each with the line it stands in.

    `topic_field` is the part that is the query: a field of topics, a key of JSONL, a column of TSV; `columns` names
    the columns of TSV. Only queries that are `wanted` need a text. `sums` adds up every byte. Raises InputError with
    file and line for what cannot be read, and for two texts under one id; UsageError for an option without effect.
    """
    name = display_name(path)
    wanted = _Everything() if wanted is None else wanted
    found: dict[str, QueryLine] = {}
    for number, query in _read(numbered(open_input(path, sums)), name, topic_field, columns, wanted, warn):
        known = found.setdefault(query.query_id, QueryLine(number, query))
        if known.query != query and query.query_id in wanted:
            raise InputError(f"query {query.query_id} has another text at {name}:{known.number}", name, number)
    return found


def _read(
    lines: Iterator[tuple[int, bytes]],
    name: str,
    topic_field: str | None,
    columns: tuple[str, ...] | None,
    wanted: Container[str],
    warn: Callable[[str], None],
) -> Iterator[tuple[int, Query]]:
    first = next(lines, None)
    if first is None:
        return
    lines = itertools.chain([first], lines)
    kind = "TREC topics" if first[1].lstrip(b" \t").startswith(b"<") else "JSONL" if is_json(first[1]) else "TSV"
    if columns is not None and kind != "TSV":
        raise UsageError(f"--query-columns has no effect: {name} is {kind}")
    if kind == "TREC topics":
        yield from _from_topics(lines, name, topic_field or DEFAULT, wanted, warn)
    elif kind == "JSONL":
        for number, data in lines:
            yield number, _from_json(data, name, number, TEXTS if topic_field is None else (topic_field,), wanted)
    else:
        yield from read_columns(lines, name, topic_field, columns, warn)


def _from_topics(
    lines: Numbered, name: str, topic_field: str, wanted: Container[str], warn: Callable[[str], None]
) -> Iterator[tuple[int, Query]]:
    text: list[str] = []
    for number, data in lines:
        if SEPARATED.search(data):
            raise CarriageReturnError(name, number)
        text += ["\n"] * (number - 1 - len(text))  # blank lines were left out, and lines are counted
        text.append(decoded(data, name, number) + "\n")
    nameless = []
    count = 0
    for topic in read_topics("".join(text), name):
        query_id = topic.number
        count += 1
        if query_id:
            found = topic.text(topic_field, name) if query_id in wanted else topic.find(topic_field)
            yield topic.line, Query(query_id, found)
        else:
            nameless.append(topic.line)
    if nameless and (len(nameless) == count or isinstance(wanted, _Everything)):
        raise InputError("a topic without a number", name, nameless[0])
    if nameless:
        warn(f"{name}:{nameless[0]}: a topic without a number; {len(nameless)} of {count} topics are left out")


def _from_json(data: bytes, name: str, number: int, texts: tuple[str, ...], wanted: Container[str]) -> Query:
    record = json_object(data, name, number)
    id_key = _first(IDS, record)
    if id_key is None:
        raise InputError(f"no query id ({', '.join(IDS)})", name, number)
    query_id = as_id(record[id_key])
    if query_id is None:
        kind = json_kind(record[id_key])
        raise InputError(f'"{id_key}" has to be a string or a 64-bit integer, this is {kind}', name, number)
    text_key = _first(texts, record)
    text = record[text_key] if text_key else None
    if isinstance(text, str) or query_id not in wanted:
        return Query(query_id, text if isinstance(text, str) else None)
    if text_key is None:
        there = ", ".join(key for key in record if key != id_key)
        hint = f"name the key with --topic-field; the line has {there}" if there else ""
        raise InputError(f"no query text ({', '.join(texts)})", name, number, hint=hint)
    raise InputError(f'"{text_key}" has to be a string, this is {json_kind(text)}', name, number)


def _first(keys: Iterable[str], record: dict[str, object]) -> str | None:
    return next((key for key in keys if key in record), None)
