"""Corpora: JSONL with the keys of BEIR, Anserini and MS MARCO v2, or TSV.

A corpus is read once, from front to back, and only wanted documents are kept in memory. The JSONL loop is flat because
it decides how fast lbr reads (`benchmarks/reading.py`).
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import Any

import orjson

from lbr_cli.core import Document
from lbr_cli.errors import InputError, UsageError
from lbr_cli.formats.files import BLANKS, Numbered, decoded, without_end
from lbr_cli.formats.json_lines import as_id, is_json, json_kind, json_object
from lbr_cli.formats.jsonl import TEXTS
from lbr_cli.formats.line_ends import CarriageReturns, has_tabs

IDS = ("_id", "id", "doc_id", "docno", "pid", "docid")
SAMPLE = 3

Note = Callable[[str], None]
Bad = Callable[[InputError], None]


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a corpus. Of several names, the first that is present counts.

    `columns` names the columns of a TSV file in order, None is id and text; names other than id, title and text are
    skipped, and the last column takes the rest of the line, tabs included. `chosen` holds the names of the options for
    JSONL that the user has set.
    """

    ids: tuple[str, ...] = IDS
    texts: tuple[str, ...] = TEXTS
    title: str = "title"
    columns: tuple[str, ...] | None = None
    chosen: tuple[str, ...] = ()


@dataclass(slots=True)
class WantedDocuments:
    """The documents that are `wanted`, as far as they have been found.

    `locations` are the files and lines of the found documents. `sample` holds some ids of other documents, `is_jsonl`
    the format of each file by name (None if it is empty), and `has_title` whether a found document has the title field.
    """

    wanted: Container[str]
    documents: dict[str, Document] = field(default_factory=dict)
    locations: dict[str, tuple[str, int]] = field(default_factory=dict)
    sample: list[str] = field(default_factory=list)
    is_jsonl: dict[str, bool | None] = field(default_factory=dict)
    has_title: bool = False

    def add(self, document: Document, file: str, line: int) -> None:
        """Add a found document. InputError if its id has been found with another text."""
        known = self.documents.setdefault(document.doc_id, document)
        if known is document:
            self.locations[document.doc_id] = (file, line)
        elif known != document:
            location = "{}:{}".format(*self.locations[document.doc_id])
            raise InputError(f"document {document.doc_id} has another text at {location}", file, line)


def read_corpus(stream: io.BufferedReader, documents: WantedDocuments, fields: Fields, note: Note, bad: Bad) -> None:
    """Add the wanted documents of a corpus to `documents`, and close the stream.

    `note` is called with a choice between fields. `bad` is called with an InputError, with file and line, for each
    invalid line, wanted or not; it raises the error or returns.
    """
    with stream:
        lines = enumerate(stream, 1)
        head = []
        is_jsonl = None
        while is_jsonl is None and (line := next(lines, None)):
            head.append(line)
            # with --tsv-columns any line but a whole JSON object is TSV
            is_jsonl = is_json(line[1]) if fields.columns is None else _is_object(line[1])
        documents.is_jsonl[stream.name] = is_jsonl
        every = itertools.chain(head, lines)
        if is_jsonl:
            _read_jsonl(every, stream.name, documents, fields, note, bad)
        else:
            _read_tsv(every, stream.name, documents, fields, bad)


def _is_object(line: bytes) -> bool | None:
    """Return whether a line is a JSON object; None for a blank line."""
    if not line.strip(BLANKS):
        return None
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def check_fields(fields: Fields, documents: WantedDocuments, warn: Note) -> None:
    """Raise UsageError for options without effect on the corpora that were read; `warn` of a title field not found."""
    kinds = set(documents.is_jsonl.values())
    names = ", ".join(documents.is_jsonl)
    are = "is" if len(documents.is_jsonl) == 1 else "are"
    if fields.chosen and False in kinds and True not in kinds:
        raise UsageError(f"{fields.chosen[0]} has no effect: {names} {are} TSV", hint="--tsv-columns names its columns")
    if fields.columns is not None and True in kinds and False not in kinds:
        hint = "--id-field, --text-field and --title-field name its keys"
        raise UsageError(f"--tsv-columns has no effect: {names} {are} JSONL", hint=hint)
    if "--title-field" in fields.chosen and documents.documents and not documents.has_title:
        warn(f'{names}: no document of the run has the title field "{fields.title}"')


def _read_jsonl(lines: Numbered, name: str, documents: WantedDocuments, fields: Fields, note: Note, bad: Bad) -> None:
    loads, wanted = orjson.loads, documents.wanted
    ids, texts, title_key = fields.ids, fields.texts, fields.title
    noted = False
    for number, raw in lines:
        try:
            try:
                record = loads(raw)
            except orjson.JSONDecodeError:
                if not raw.strip(BLANKS):
                    continue
                record = json_object(raw, name, number)  # raises, unless the line has a number that orjson refuses
            if type(record) is not dict:
                record = json_object(raw, name, number)
            for id_key in ids:
                if id_key in record:
                    break
            else:
                raise InputError(f"no document id ({', '.join(ids)})", name, number, hint=_field_hint(record, "id"))
            for text_key in texts:
                if text_key in record:
                    break
            else:
                raise InputError(f"no text ({', '.join(texts)})", name, number, hint=_field_hint(record, "text"))
            doc_id, text = record[id_key], record[text_key]
            if type(doc_id) is not str:
                doc_id = as_id(doc_id)
                if doc_id is None:
                    kind = json_kind(record[id_key])
                    raise InputError(f'"{id_key}" has to be a string or a 64-bit integer, this is {kind}', name, number)
            if type(text) is not str:
                raise InputError(f'"{text_key}" has to be a string, this is {json_kind(text)}', name, number)
            title = record.get(title_key)
            if type(title) is not str and title is not None:
                raise InputError(f'"{title_key}" has to be a string, this is {json_kind(title)}', name, number)
        except InputError as error:
            bad(error)
            continue
        if doc_id in wanted:
            documents.add(Document(doc_id, text, title or ""), name, number)
            documents.has_title = documents.has_title or title_key in record
            if not noted:
                choices = _choices(record, fields)
                noted = bool(choices)
                for choice in choices:
                    note(f"{name}: {choice}")
        elif len(documents.sample) < SAMPLE:
            documents.sample.append(doc_id)


def _choices(record: dict[str, Any], fields: Fields) -> list[str]:
    """Describe the choice of fields for a record that has several ids or texts."""
    choices = []
    for noun, keys in (("ids", fields.ids), ("texts", fields.texts)):
        if len(record.keys() & keys) > 1:
            first, *others = [key for key in keys if key in record]
            choices.append(f'{noun} are taken from "{first}", not from {", ".join(others)}')
    return choices


def _field_hint(record: dict[str, Any], noun: str) -> str:
    keys = ", ".join(list(record)[:8])
    return f"name the field with --{noun}-field; the line has {keys}" if keys else ""


def _read_tsv(lines: Numbered, name: str, documents: WantedDocuments, fields: Fields, bad: Bad) -> None:
    columns = fields.columns or ("id", "text")
    id_index, text_index = columns.index("id"), columns.index("text")
    title_index = columns.index("title") if "title" in columns else None
    returns = CarriageReturns(name, has_tabs(len(columns) - 1))
    count = 0
    for number, raw in lines:
        if not raw.strip(BLANKS):
            continue
        count += 1
        if b"\r" in raw:
            returns.check(without_end(raw), number)
        try:
            row = decoded(without_end(raw), name, number).split("\t", len(columns) - 1)
            if len(row) < len(columns):
                names = ", ".join(columns)
                message = f"a line has {len(columns)} tab-separated fields ({names}), this one has {len(row)}"
                raise InputError(message, name, number)
        except InputError as error:
            bad(error)
            continue
        doc_id = row[id_index]
        if doc_id in documents.wanted:
            title = row[title_index] if title_index is not None else ""
            documents.add(Document(doc_id, row[text_index], title), name, number)
        elif len(documents.sample) < SAMPLE:
            documents.sample.append(doc_id)
    returns.finish(count)
