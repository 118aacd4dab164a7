"""Queries files: JSONL (`_id/id/query_id/qid`, `text/query`), TSV (id, text), `id BLANK text`, or TREC topics."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Container, Iterator
from typing import NamedTuple

from lbr_cli.core import Query
from lbr_cli.errors import InputError, UsageError
from lbr_cli.formats.files import CarriageReturnError, Numbered, decoded, numbered
from lbr_cli.formats.json_lines import ID_TYPES, as_id, bad_type, first_key, is_json, json_object
from lbr_cli.formats.query_columns import read_columns
from lbr_cli.formats.topic import DEFAULT
from lbr_cli.formats.topics import read_topics

IDS = ("_id", "id", "query_id", "qid")
TEXTS = ("text", "query")
SEPARATED = re.compile(rb"\r[ \t]*<")  # tags on lines that end in a carriage return


class QueryLine(NamedTuple):
    """A query and the number of its line. The text is None only if the query is not wanted."""

    number: int
    query: Query


class _All:
    """Contains every id."""

    def __contains__(self, _: object) -> bool:
        return True


def read_queries(
    stream: io.BufferedReader,
    topic_field: str | None = None,
    *,
    columns: tuple[str, ...] | None = None,
    wanted: Container[str] | None = None,
    warn: Callable[[str], None] = lambda _: None,
) -> dict[str, QueryLine]:
    """Return the queries of a file by id, in its order.

    `topic_field` is the field that holds the query: a field of topics, a key of JSONL, a column of TSV. `columns` names
    the columns of TSV. Only queries in `wanted` (default: all) need a text. Raises InputError, with file and line, for
    an invalid line and for an id with two texts; UsageError for an option without effect.
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
        raise UsageError(f"--query-columns has no effect: {name} is {kind}")
    if kind == "TREC topics":
        parsed = _from_topics(lines, name, topic_field or DEFAULT, wanted, warn)
    elif kind == "JSONL":
        parsed = _from_json(lines, name, TEXTS if topic_field is None else (topic_field,), wanted)
    else:
        parsed = read_columns(lines, name, topic_field, columns, warn)
    queries: dict[str, QueryLine] = {}
    for number, query in parsed:
        known = queries.setdefault(query.query_id, QueryLine(number, query))
        if known.query != query and query.query_id in wanted:
            raise InputError(f"query {query.query_id} has another text at {name}:{known.number}", name, number)
    return queries


def _from_topics(
    lines: Numbered, name: str, topic_field: str, wanted: Container[str], warn: Callable[[str], None]
) -> Iterator[tuple[int, Query]]:
    text: list[str] = []
    for number, data in lines:
        if SEPARATED.search(data):
            raise CarriageReturnError(name, number)
        text += ["\n"] * (number - 1 - len(text))  # blank lines, so that line numbers stay right
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


def _from_json(
    lines: Numbered, name: str, texts: tuple[str, ...], wanted: Container[str]
) -> Iterator[tuple[int, Query]]:
    for number, data in lines:
        record = json_object(data, name, number)
        id_key = first_key(IDS, record)
        if id_key is None:
            raise InputError(f"no query id ({', '.join(IDS)})", name, number)
        query_id = as_id(record[id_key])
        if query_id is None:
            raise InputError(bad_type(id_key, ID_TYPES, record[id_key]), name, number)
        text_key = first_key(texts, record)
        text = record[text_key] if text_key else None
        if isinstance(text, str) or query_id not in wanted:
            yield number, Query(query_id, text if isinstance(text, str) else None)
        elif text_key is None:
            keys = ", ".join(key for key in record if key != id_key)
            hint = f"name the key with --topic-field; the line has {keys}" if keys else ""
            raise InputError(f"no query text ({', '.join(texts)})", name, number, hint=hint)
        else:
            raise InputError(bad_type(text_key, "a string", text), name, number)
