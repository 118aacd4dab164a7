"""Query files: JSONL (`_id/id/query_id/qid`, `text/query`) or TSV (id, text)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from lbr_cli.core import Query
from lbr_cli.errors import InputError
from lbr_cli.formats.files import as_id, decoded, display_name, json_kind, json_object, numbered, open_input

IDS = ("_id", "id", "query_id", "qid")
TEXTS = ("text", "query")


class QueryLine(NamedTuple):
    number: int
    query: Query


def read_queries(path: str) -> dict[str, QueryLine]:
    """The queries of a file by their ids, in its order, each with the line it stands in.

    Raises InputError with file and line for a line that cannot be read, and for two texts under one id.
    """
    name = display_name(path)
    found: dict[str, QueryLine] = {}
    for number, query in _read(numbered(open_input(path)), name):
        known = found.setdefault(query.query_id, QueryLine(number, query))
        if known.query != query:
            raise InputError(f"query {query.query_id} has another text at {name}:{known.number}", name, number)
    return found


def _read(lines: Iterator[tuple[int, bytes]], name: str) -> Iterator[QueryLine]:
    reader = None
    for number, data in lines:
        reader = reader or (_from_json if data.lstrip(b" \t")[:1] in b"{[" else _from_tsv)
        yield QueryLine(number, reader(data, name, number))


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


def _from_tsv(data: bytes, name: str, number: int) -> Query:
    query_id, tab, text = decoded(data, name, number).partition("\t")
    if not tab:
        raise InputError("a query line is an id, a tab and the text; this one has no tab", name, number)
    return Query(query_id, text)


def _first(keys: Iterable[str], record: dict[str, object]) -> str | None:
    return next((key for key in keys if key in record), None)
