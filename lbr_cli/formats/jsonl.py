"""JSONL: candidates in four forms; the output is one pair a line.

    {"query_id": …, "doc_id": …, "score"?: …, "rank"?: …, "query"?: …, "title"?: …, "text"?: …}     one pair a line
    {"query_id": …, "query"?: …, "candidates": [{"doc_id": …, "score"?: …, "text"?: …}, …]}         one query a line
    {"query": …, "documents": ["text", {"doc_id"?: …, "text": …}, …]}                               as web services take
    {"query-id": …, "corpus-ids": ["id", …]}                                            `top_ranked` of MTEB, best first

Options may name the id, text and title of a candidate, also by dotted paths, so that the hits of a search engine, one a
line, are candidates. The output has the id as "doc_id", and keeps the keys that the options name. "instruction", beside
the query or inside a query object, replaces the instruction of the model. Unknown keys are copied to the output with
the same values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lbr_cli.core import Candidate, Document, Query, RankedCandidate
from lbr_cli.float32 import round_trip_number
from lbr_cli.formats.fields import DEFAULT_FIELDS, TEXTS, Fields
from lbr_cli.formats.files import shell_command
from lbr_cli.formats.json_lines import INSTRUCTION, Record, as_id, dump_json, json_kind, json_object, value_at
from lbr_cli.formats.protocol import Line, OutputOptions, RunFormat
from lbr_cli.formats.run_json import is_whole_run

QUERY_IDS = ("query_id", "qid", "query-id", "q_id")
DOC_IDS = ("doc_id", "docid", "_id", "id", "docno", "corpus-id")
SCORES = ("score", "_score")  # `_score`: Elasticsearch and OpenSearch
ID_LIST = "corpus-ids"
LISTS = ("candidates", "documents", ID_LIST)
# the jq command that converts a run in one object, {query: {document: score}}
REMEDY = (
    "jq -c 'to_entries[] | {query_id: .key, candidates: (.value | to_entries | map({doc_id: .key, score: .value}))}'"
)


class Jsonl(RunFormat):
    """JSONL. If `query` is the query of the option `--query`, a line must not have a query of its own."""

    name = "jsonl"
    suffix = ".jsonl"
    has_details = True

    def __init__(self, query: Query | None = None, fields: Fields = DEFAULT_FIELDS) -> None:
        self._query_option = query
        self._fields = fields

    def matches(self, line: str) -> bool:
        return line.lstrip(" \t").startswith("{")

    def read(self, lines: Iterable[tuple[int, bytes]], file: str) -> Iterator[Line]:
        for number, data in lines:
            yield from self.read_line(data, file, number)[0]

    def read_line(self, data: bytes, file: str, number: int) -> tuple[list[Line], bool]:
        """Return the candidates of one line, and whether the line is a whole query."""
        record = Record(json_object(data, file, number, REMEDY), file, number)
        key = next((key for key in LISTS if isinstance(record.values.get(key), list)), None)
        if key is None:
            if is_whole_run(record.values):
                hint = f"convert it: {shell_command(REMEDY, file)}"
                raise record.error("a whole run as one JSON object, not JSONL", hint)
            return [Line(number, self._query(record, None)[0], _candidate(record, self._fields, None, {}))], False
        query, implied = self._query(record, str(number))
        return list(_nested(record, self._fields, query, key, implied)), True

    def _query(self, record: Record, fallback: str | None) -> tuple[Query, bool]:
        """Return the query of a line, and whether its id is `fallback` because the line has no id."""
        if self._query_option is not None:
            for key in (*QUERY_IDS, "query"):
                if record.values.get(key) is not None:
                    raise record.error(f'has a query of its own ("{key}"), and --query is for input without queries')
            own_instruction, location = record.instruction()
            if own_instruction is None:
                return self._query_option, False
            return replace(self._query_option, instruction=own_instruction, instruction_at=location), False
        query_id, text, instruction = _query_parts(record)
        if query_id is not None:
            return Query(query_id, text, *instruction), False
        if fallback is None:
            is_document = "query" not in record.values and any(key in record.values for key in TEXTS)
            hint = "this looks like a corpus; name the corpus with --corpus" if is_document else ""
            if "pos" in record.values or "neg" in record.values:
                hint = "training data is read with --input-format training, without --stream"
            raise record.error(f"no query id ({', '.join(QUERY_IDS)})", hint)
        if text is None:
            raise record.error("neither a query id nor a query")
        return Query(fallback, text, *instruction), True

    def write(self, query: Query, rows: Sequence[RankedCandidate], options: OutputOptions) -> bytes:
        return b"".join(dump_json(_row(query, row, options)) for row in rows)


def _query_parts(record: Record) -> tuple[str | None, str | None, tuple[str | None, str]]:
    """Return the id, the text and the `instruction` of the query: keys of the line, or of its object "query"."""
    query_id, inner, instruction = record.id(QUERY_IDS), record.values.get("query"), record.instruction()
    if not isinstance(inner, dict):
        return query_id, record.text(["query"]), instruction
    nested = record.inner(inner, 'in "query": ')
    query_id = nested.id(("_id", "id", *QUERY_IDS)) if query_id is None else query_id
    of_query = nested.instruction()
    if None not in (instruction[0], of_query[0]) and instruction != of_query:
        raise nested.error(f'"{INSTRUCTION}" differs from that of the line')
    return query_id, nested.text(("text", "query")), of_query if instruction[0] is None else instruction


def _doc_id(record: Record, fields: Fields) -> str | None:
    """Return the document id, None if there is none. InputError if the field that `--id-field` names is missing."""
    path = fields.id_field
    if path is None:
        return record.id(DOC_IDS)
    value = value_at(path, record.values)
    if value is None:
        raise record.error(f"no document id ({path})")
    return record.checked_id(path, value)


def _candidate(record: Record, fields: Fields, fallback: str | None, extra: Mapping[str, Any]) -> Candidate:
    """Return the candidate with its unknown keys and `extra`. `fallback` is the id of a candidate without one."""
    doc_id = _doc_id(record, fields)
    doc_id = fallback if doc_id is None else doc_id
    if doc_id is None:
        raise record.error(f"no document id ({', '.join(DOC_IDS)})")
    inner = record.values.get("doc")
    holder, keys = (record.inner(inner, 'in "doc": '), TEXTS) if isinstance(inner, dict) else (record, ("text",))
    text = holder.text(keys) if fields.text_field is None else record.text([fields.text_field])
    if text is None and fields.text_field is not None:
        raise record.error(f"no text ({fields.text_field})")
    title = holder.text(["title"]) if fields.title_field is None else record.text([fields.title_field])
    document = None if text is None else Document(doc_id, text, title or "")
    ids = DOC_IDS if fields.id_field is None else ()
    extra = {**extra, **record.others(QUERY_IDS, ids, SCORES, ["rank"])}
    return Candidate(doc_id, document, record.number(SCORES), record.integer("rank"), extra or None)


def _nested(record: Record, fields: Fields, query: Query, key: str, implied: bool) -> Iterator[Line]:
    # a text beside the list belongs to no document, but in a line of the output it would look like the document's
    shared = {name: value for name, value in record.others(QUERY_IDS, [key]).items() if name not in ("text", "title")}
    explicit: dict[str, bool] = {}
    for index, value in enumerate(record.values[key]):
        values = {"text": value} if isinstance(value, str) and key == "documents" else value
        if key == ID_LIST and as_id(value) is not None:
            values = {"doc_id": value}
        if not isinstance(values, dict):
            items = "ids" if key == ID_LIST else "objects"
            raise record.error(f'"{key}" has to hold {items}, item {index} is {json_kind(value)}')
        inner = record.inner(values, f'in "{key}", item {index}: ')
        candidate = _candidate(inner, fields, str(index), shared)
        has_id = _doc_id(inner, fields) is not None
        if not has_id and candidate.document is None:
            raise inner.error("neither a document id nor a text")
        if explicit.setdefault(candidate.doc_id, has_id) != has_id:
            message = f"document id {candidate.doc_id} is also the index of a document without an id"
            raise inner.error(message, "give every document an id")
        yield Line(record.line, query, candidate, implied)


def _row(query: Query, row: RankedCandidate, options: OutputOptions) -> dict[str, Any]:
    score = None if row.score is None else round_trip_number(row.score)
    fields: dict[str, Any] = {
        "query_id": query.query_id,
        "doc_id": row.candidate.doc_id,
        "rank": row.rank,
        "score": row.candidate.score if options.is_first_stage else score,
        "first_stage_score": row.candidate.score,
        "first_stage_rank": row.first_stage_rank,
    }
    details = row.details if options.explain else {}
    extra = {key: value for key, value in (row.candidate.extra or {}).items() if key not in fields}
    return fields | extra | dict(details)
