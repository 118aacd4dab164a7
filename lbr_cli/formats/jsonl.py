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

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lbr_cli.core import Candidate, Document, Query, RankedCandidate
from lbr_cli.errors import InputError
from lbr_cli.float32 import round_trip_number
from lbr_cli.formats.files import shell_command
from lbr_cli.formats.json_lines import (
    ID_TYPES,
    INSTRUCTION,
    as_id,
    bad_type,
    dump_json,
    first_key,
    json_kind,
    json_object,
    value_at,
)
from lbr_cli.formats.protocol import Line, OutputOptions, RunFormat
from lbr_cli.formats.run_json import is_whole_run

QUERY_IDS = ("query_id", "qid", "query-id", "q_id")
DOC_IDS = ("doc_id", "docid", "_id", "id", "docno", "corpus-id")
TEXTS = ("text", "contents", "body", "passage", "segment", "content")
SCORES = ("score", "_score")  # `_score`: Elasticsearch and OpenSearch
ID_LIST = "corpus-ids"
LISTS = ("candidates", "documents", ID_LIST)
# the jq command that converts a run in one object, {query: {document: score}}
REMEDY = (
    "jq -c 'to_entries[] | {query_id: .key, candidates: (.value | to_entries | map({doc_id: .key, score: .value}))}'"
)


@dataclass(frozen=True, slots=True)
class CandidateFields:
    """The keys or dotted paths of the fields of a candidate; None means the default keys.

    A line is invalid if it does not have the id or text that is named here.
    """

    doc_id: str | None = None
    text: str | None = None
    title: str | None = None


class Jsonl(RunFormat):
    """JSONL. If `query` is the query of the option `--query`, a line must not have a query of its own."""

    name = "jsonl"
    suffix = ".jsonl"
    has_details = True

    def __init__(self, query: Query | None = None, fields: CandidateFields = CandidateFields()) -> None:
        self._query_option = query
        self._fields = fields

    def matches(self, line: str) -> bool:
        return line.lstrip(" \t").startswith("{")

    def for_query(self, query: Query) -> Jsonl:
        return Jsonl(query, self._fields)

    def for_fields(self, fields: CandidateFields) -> Jsonl:
        """Return the variant that reads these fields."""
        return Jsonl(self._query_option, fields)

    def read(self, lines: Iterable[tuple[int, bytes]], file: str) -> Iterator[Line]:
        for number, data in lines:
            yield from self.read_line(data, file, number)[0]

    def read_line(self, data: bytes, file: str, number: int) -> tuple[list[Line], bool]:
        """Return the candidates of one line, and whether the line is a whole query."""
        record = _Record(json_object(data, file, number, REMEDY), file, number, fields=self._fields)
        key = next((key for key in LISTS if isinstance(record.values.get(key), list)), None)
        if key is None:
            if is_whole_run(record.values):
                hint = f"convert it: {shell_command(REMEDY, file)}"
                raise record.error("a whole run as one JSON object, not JSONL", hint)
            return [Line(number, self._query(record, None)[0], record.candidate(None, {}))], False
        query, implied = self._query(record, str(number))
        return list(_nested(record, query, key, implied)), True

    def _query(self, record: _Record, fallback: str | None) -> tuple[Query, bool]:
        """Return the query of a line, and whether its id is `fallback` because the line has no id."""
        if self._query_option is not None:
            for key in (*QUERY_IDS, "query"):
                if record.values.get(key) is not None:
                    raise record.error(f'has a query of its own ("{key}"), and --query is for input without queries')
            instruction = record.text([INSTRUCTION])
            if instruction is None:
                return self._query_option, False
            instruction_at = record.location(instruction)
            return replace(self._query_option, instruction=instruction, instruction_at=instruction_at), False
        query_id, text, instruction = record.query()
        instruction_at = record.location(instruction)
        if query_id is not None:
            return Query(query_id, text, instruction, instruction_at), False
        if fallback is None:
            is_document = "query" not in record.values and any(key in record.values for key in TEXTS)
            hint = "this looks like a corpus; name the corpus with --corpus" if is_document else ""
            if "pos" in record.values or "neg" in record.values:
                hint = "training data is read with --input-format training, without --stream"
            raise record.error(f"no query id ({', '.join(QUERY_IDS)})", hint)
        if text is None:
            raise record.error("neither a query id nor a query")
        return Query(fallback, text, instruction, instruction_at), True

    def write(self, query: Query, rows: Sequence[RankedCandidate], options: OutputOptions) -> bytes:
        return b"".join(dump_json(_row(query, row, options)) for row in rows)


class _Record:
    """A JSON object with its file and line."""

    def __init__(
        self,
        values: dict[str, Any],
        file: str,
        number: int,
        where: str = "",
        fields: CandidateFields = CandidateFields(),
    ) -> None:
        self.values = values
        self._file = file
        self.number = number
        self._where = where
        self._fields = fields

    def error(self, message: str, hint: str = "") -> InputError:
        return InputError(self._where + message, self._file, self.number, hint=hint)

    def inner(self, values: dict[str, Any], where: str) -> _Record:
        return _Record(values, self._file, self.number, where, self._fields)

    def id(self, keys: Sequence[str]) -> str | None:
        """Return the value of the first of `keys` that is present, as an id; None if none is present."""
        key = first_key(keys, self.values)
        value = None if key is None else as_id(self.values[key])
        if key is not None and value is None:
            raise self.error(bad_type(key, ID_TYPES, self.values[key]))
        return value

    def doc_id(self) -> str | None:
        """Return the document id, None if there is none. InputError if the field that `--id-field` names is missing."""
        if self._fields.doc_id is None:
            return self.id(DOC_IDS)
        value = value_at(self._fields.doc_id, self.values)
        if value is None:
            raise self.error(f"no document id ({self._fields.doc_id})")
        if (doc_id := as_id(value)) is None:
            raise self.error(bad_type(self._fields.doc_id, ID_TYPES, value))
        return doc_id

    def _string_at(self, path: str) -> str | None:
        value = value_at(path, self.values)
        if value is not None and not isinstance(value, str):
            raise self.error(bad_type(path, "a string", value))
        return value

    def text(self, keys: Sequence[str]) -> str | None:
        """Return the value of the first of `keys` that is not null; None if all are."""
        for key in keys:
            value = self.values.get(key)
            if isinstance(value, str):
                return value
            if value is not None:
                raise self.error(bad_type(key, "a string", value))
        return None

    def query(self) -> tuple[str | None, str | None, str | None]:
        """Return the id, the text and the instruction of the query: keys of the line, or of its object "query"."""
        query_id, inner, instruction = self.id(QUERY_IDS), self.values.get("query"), self.text([INSTRUCTION])
        if not isinstance(inner, dict):
            return query_id, self.text(["query"]), instruction
        nested = self.inner(inner, 'in "query": ')
        query_id = nested.id(("_id", "id", *QUERY_IDS)) if query_id is None else query_id
        of_query = nested.text([INSTRUCTION])
        if None not in (instruction, of_query) and instruction != of_query:
            raise nested.error(f'"{INSTRUCTION}" differs from that of the line')
        return query_id, nested.text(("text", "query")), of_query if instruction is None else instruction

    def location(self, value: object) -> str:
        """Return FILE:LINE, or "" if `value` is None."""
        return "" if value is None else f"{self._file}:{self.number}"

    def candidate(self, fallback: str | None, extra: Mapping[str, Any]) -> Candidate:
        """Return the candidate with its unknown keys and `extra`. `fallback` is the id of a candidate without one."""
        doc_id = self.doc_id()
        doc_id = fallback if doc_id is None else doc_id
        if doc_id is None:
            raise self.error(f"no document id ({', '.join(DOC_IDS)})")
        inner = self.values.get("doc")
        holder, keys = (self.inner(inner, 'in "doc": '), TEXTS) if isinstance(inner, dict) else (self, ("text",))
        named = self._fields
        text = holder.text(keys) if named.text is None else self._string_at(named.text)
        if text is None and named.text is not None:
            raise self.error(f"no text ({named.text})")
        title = holder.text(["title"]) if named.title is None else self._string_at(named.title)
        document = None if text is None else Document(doc_id, text, title or "")
        ids = DOC_IDS if named.doc_id is None else ()
        extra = {**extra, **self.others(QUERY_IDS, ids, SCORES, ["rank"])}
        return Candidate(doc_id, document, self._score(), self._number("rank", "an integer", int), extra or None)

    def others(self, *read: Sequence[str]) -> dict[str, Any]:
        """Return all values except, for each list of keys, the value of its first key that is present."""
        used = {first_key(keys, self.values) for keys in read}
        return {key: value for key, value in self.values.items() if key not in used}

    def _number(self, key: str, types: str, kind: Any) -> Any:
        value = self.values.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
            raise self.error(bad_type(key, types, value))
        return value

    def _score(self) -> float | None:
        key = first_key(SCORES, self.values) or SCORES[0]
        value = self._number(key, "a number", int | float)
        if value is not None and not math.isfinite(value):
            raise self.error(f'"{key}" has to be a finite number')
        return None if value is None else float(value)


def _nested(record: _Record, query: Query, key: str, implied: bool) -> Iterator[Line]:
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
        candidate = inner.candidate(str(index), shared)
        has_id = inner.doc_id() is not None
        if not has_id and candidate.document is None:
            raise inner.error("neither a document id nor a text")
        if explicit.setdefault(candidate.doc_id, has_id) != has_id:
            message = f"document id {candidate.doc_id} is also the index of a document without an id"
            raise inner.error(message, "give every document an id")
        yield Line(record.number, query, candidate, implied)


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
