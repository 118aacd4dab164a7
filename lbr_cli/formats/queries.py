"""Query files: JSONL (`_id/id/query_id/qid`, `text/query`), TSV (id, text), `id BLANK text`, or TREC topics."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from lbr_cli.core import Query
from lbr_cli.errors import InputError
from lbr_cli.formats.files import Sums, decoded, display_name, numbered, open_input
from lbr_cli.formats.records import as_id, is_json, json_kind, json_object
from lbr_cli.formats.topics import read_topics

IDS = ("_id", "id", "query_id", "qid")
TEXTS = ("text", "query")


class QueryLine(NamedTuple):
    number: int
    query: Query


def read_queries(path: str, topic_field: str = "title", sums: Sums | None = None) -> dict[str, QueryLine]:
    """The queries of a file by their ids, in its order, each with the line it stands in.

    `topic_field` is the part of a TREC topic that is wanted, `sums` hears what is read. Raises InputError with file
    and line for what cannot be read, and for two texts under one id.
    """
    name = display_name(path)
    found: dict[str, QueryLine] = {}
    for number, query in _read(open_input(path, sums), name, topic_field):
        known = found.setdefault(query.query_id, QueryLine(number, query))
        if known.query != query:
            raise InputError(f"query {query.query_id} has another text at {name}:{known.number}", name, number)
    return found


def _read(stream: io.BufferedReader, name: str, topic_field: str) -> Iterator[QueryLine]:
    lines = numbered(stream)
    first = next(lines, None)
    if first is None:
        return
    if first[1].lstrip(b" \t").startswith(b"<"):
        yield from _from_topics(itertools.chain([first], lines), name, topic_field)
        return
    json = is_json(first[1])
    separator = "\t" if b"\t" in first[1] else " "
    for number, data in itertools.chain([first], lines):
        yield QueryLine(
            number,
            _from_json(data, name, number) if json else _from_tsv(data, name, number, separator),
        )


def _from_topics(lines: Iterable[tuple[int, bytes]], name: str, topic_field: str) -> Iterator[QueryLine]:
    text: list[str] = []
    for number, data in lines:
        text += ["\n"] * (number - 1 - len(text))  # blank lines were left out, and lines are counted
        text.append(decoded(data, name, number) + "\n")
    for topic in read_topics("".join(text), name):
        query_id, query = topic.id_and_text(topic_field, name)
        yield QueryLine(topic.line, Query(query_id, query))


def _from_json(data: bytes, name: str, number: int) -> Query:
    record = json_object(data, name, number)
    id_key = _first(IDS, record)
    text_key = _first(TEXTS, record)
    if id_key is None or text_key is None:
        what, keys = ("query id", IDS) if id_key is None else ("query text", TEXTS)
        raise InputError(f"no {what} ({', '.join(keys)})", name, number)
    query_id, text = as_id(record[id_key]), record[text_key]
    if query_id is None:
        kind = json_kind(record[id_key])
        raise InputError(f'"{id_key}" has to be a string or a 64-bit integer, this is {kind}', name, number)
    if not isinstance(text, str):
        raise InputError(f'"{text_key}" has to be a string, this is {json_kind(text)}', name, number)
    return Query(query_id, text)


def _from_tsv(data: bytes, name: str, number: int, separator: str) -> Query:
    query_id, found, text = decoded(data, name, number).partition(separator)
    if not found:
        what = "a tab" if separator == "\t" else "a tab or a blank"
        raise InputError(f"a query line is an id, {what} and the text; there is none here", name, number)
    return Query(query_id, text)


def _first(keys: Iterable[str], record: dict[str, object]) -> str | None:
    return next((key for key in keys if key in record), None)
