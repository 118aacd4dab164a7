"""Corpora: JSONL or tables with the fields of BEIR, Anserini and MS MARCO v2, TRECTEXT, or TSV.

A corpus is read once, front to back, and only wanted documents are kept in memory. The JSONL loop calls few
functions, because it determines how fast lbr reads its input (`benchmarks/reading.py`).
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Container, Iterable, Set
from dataclasses import dataclass, field
from typing import Any

import orjson

from lbr_cli.core import Document, Progress
from lbr_cli.errors import InputError, UsageError
from lbr_cli.formats.fields import Fields
from lbr_cli.formats.files import BLANKS, CarriageReturns, Numbered, decoded, display_name, split_columns, without_end
from lbr_cli.formats.input_files import InputFiles
from lbr_cli.formats.json_lines import Record, add_nested, first_key, is_json, json_object
from lbr_cli.formats.tables import shards
from lbr_cli.formats.trec_text import extracted, is_trec_text, read_documents
from lbr_cli.wording import first_few

SAMPLE = 3
JSONL, TREC_TEXT, TSV = "JSONL", "TRECTEXT", "TSV"

Note = Callable[[str], None]
Bad = Callable[[InputError], None]


@dataclass(slots=True)
class WantedDocuments:
    """The documents whose ids are `wanted`, read from one or several corpora.

    `locations` are the files and lines of `documents`. `sample` holds some ids of other documents, `formats` the
    format of each file by name (None if it is empty), and `has_title` whether a document has the title field.
    """

    wanted: Container[str]
    documents: dict[str, Document] = field(default_factory=dict)
    locations: dict[str, tuple[str, int]] = field(default_factory=dict)
    sample: list[str] = field(default_factory=list)
    formats: dict[str, str | None] = field(default_factory=dict)
    has_title: bool = False

    def add(self, document: Document, file: str, line: int) -> None:
        """Add a document. InputError if its id already has another text."""
        known = self.documents.setdefault(document.doc_id, document)
        if known is document:
            self.locations[document.doc_id] = (file, line)
        elif known != document:
            other_file, other_line = self.locations[document.doc_id]
            raise InputError(f"document {document.doc_id} has another text at {other_file}:{other_line}", file, line)


def read_corpora(
    paths: Iterable[str], files: InputFiles, documents: WantedDocuments, fields: Fields, progress: Progress, bad: Bad
) -> None:
    """Add the wanted documents of several files, or folders of tables, to `documents`.

    `bad` is as in `read_corpus`. Raises UsageError for fields without effect on these files.
    """
    for path in paths:
        progress.status(f"reading {display_name(path)}")
        for file in shards(path):
            stream = files.open(file, columns=fields.table_columns)
            read_corpus(stream, documents, fields, progress.note, bad)
    _check_fields(fields, documents, progress.warn)


def read_corpus(stream: io.BufferedReader, documents: WantedDocuments, fields: Fields, note: Note, bad: Bad) -> None:
    """Add the wanted documents of a corpus to `documents`, and close the stream.

    `note` receives a message if a document has several ids or texts. `bad` receives an InputError, with file and line,
    for each invalid line, wanted or not; it raises the error or returns.
    """
    with stream:
        lines = enumerate(stream, 1)
        head = []
        format_ = None
        while format_ is None and (line := next(lines, None)):
            head.append(line)
            format_ = _format(line[1], fields)
        if format_ is None and any(line.strip(BLANKS) for _, line in head):
            format_ = TSV
        name = stream.name
        documents.formats[name] = format_
        all_lines = itertools.chain(head, lines)
        if format_ == JSONL:
            _read_jsonl(all_lines, name, documents, fields, note, bad)
        elif format_ == TREC_TEXT:
            _read_trec_text(all_lines, name, documents, fields, bad)
        else:
            _read_tsv(all_lines, name, documents, fields, bad)


def _format(line: bytes, fields: Fields) -> str | None:
    """Return the format of a corpus with this line, None if the line is blank or fits several."""
    is_trec = is_trec_text(line)
    if is_trec is not False:
        return TREC_TEXT if is_trec else None
    # with --tsv-columns any line but a whole JSON object is TSV
    is_jsonl = is_json(line) if fields.columns is None else _is_object(line)
    return None if is_jsonl is None else JSONL if is_jsonl else TSV


def _is_object(line: bytes) -> bool | None:
    """Return whether a line is a JSON object; None for a blank line."""
    if not line.strip(BLANKS):
        return None
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def _check_fields(fields: Fields, documents: WantedDocuments, warn: Note) -> None:
    """Raise UsageError for options without effect on the corpora, and `warn` if no document has the title field."""
    formats = set(documents.formats.values()) - {None}
    names = first_few(documents.formats)
    are = "is" if len(documents.formats) == 1 else "are"
    if fields.chosen and formats == {TSV}:
        raise UsageError(f"{fields.chosen[0]} has no effect: {names} {are} TSV", hint="--tsv-columns names its columns")
    if fields.columns is not None and formats and TSV not in formats:
        hint = "--id-field, --text-field and --title-field name its keys"
        others = " and ".join(sorted(filter(None, formats)))
        raise UsageError(f"--tsv-columns has no effect: {names} {are} {others}", hint=hint)
    if fields.title_field is not None and documents.documents and not documents.has_title:
        warn(f'{names}: no document of the run has the title field "{fields.title_field}"')


def _read_jsonl(lines: Numbered, name: str, documents: WantedDocuments, fields: Fields, note: Note, bad: Bad) -> None:
    """Add the wanted documents. A line with the keys of the line before, the usual case, is read without `_checked`."""
    loads, wanted, sample = orjson.loads, documents.wanted, documents.sample
    id_key, text_key, title_key = fields.ids[0], fields.texts[0], fields.title
    preferred: frozenset[str] = frozenset()  # keys that take precedence over `id_key` and `text_key`
    nested = [path for path in (*fields.ids, *fields.texts, title_key) if "." in path]
    is_sampled, noted = len(sample) >= SAMPLE, False
    checked: Set[str] = frozenset()  # the keys of the last document that `_note_choices` has checked
    for number, raw in lines:
        record: Any = None
        try:
            record = loads(raw)
            doc_id, text, title = record[id_key], record[text_key], record.get(title_key)
            if type(doc_id) is int:
                doc_id = str(doc_id)
            is_usual = type(doc_id) is str is type(text) and (type(title) is str or title is None) and not nested
        except (orjson.JSONDecodeError, KeyError, TypeError):
            is_usual = False
        if not is_usual or (preferred and not preferred.isdisjoint(record)):
            try:
                line = _checked(raw, record, fields, nested, name, number)
            except InputError as error:
                bad(error)
                continue
            if line is None:
                continue
            record, id_key, text_key = line
            doc_id, text, title = str(record[id_key]), record[text_key], record.get(title_key)
            preferred = frozenset(
                (*fields.ids[: fields.ids.index(id_key)], *fields.texts[: fields.texts.index(text_key)])
            )
        if doc_id in wanted:
            documents.add(Document(doc_id, text, title or ""), name, number)
            documents.has_title = documents.has_title or title_key in record
            if not noted and record.keys() != checked:
                checked = record.keys()
                noted = _note_choices(record, fields, name, note)
        elif not is_sampled:
            sample.append(doc_id)
            is_sampled = len(sample) >= SAMPLE


def _checked(
    raw: bytes, record: Any, fields: Fields, nested: list[str], name: str, number: int
) -> tuple[dict[str, Any], str, str] | None:
    """Return the object of a line and the keys of its id and text; None if it is blank. InputError if it is invalid.

    `record` is the parsed line, None if orjson refuses it; `nested` are the names that are dotted paths.
    """
    if record is None and not raw.strip(BLANKS):
        return None
    if type(record) is not dict:
        record = json_object(raw, name, number)  # raises, unless the line has a number that orjson refuses
    add_nested(record, nested)
    checked = Record(record, name, number)
    id_key, text_key = first_key(fields.ids, record), first_key(fields.texts, record)
    if id_key is None:
        raise checked.missing("document id", fields.ids, "name the field with --id-field; ")
    if text_key is None:
        raise checked.missing("text", fields.texts, "name the field with --text-field; ")
    # each raises for a value of another type
    checked.checked_id(id_key, record[id_key])
    checked.string(text_key)
    checked.text([fields.title])
    return record, id_key, text_key


def _read_trec_text(lines: Numbered, name: str, documents: WantedDocuments, fields: Fields, bad: Bad) -> None:
    for document in read_documents(lines, name, fields, bad):
        if document.doc_id in documents.wanted:
            try:
                extract, has_title = extracted(document, name, fields)
            except InputError as error:
                bad(error)
                continue
            documents.add(extract, name, document.line)
            documents.has_title = documents.has_title or has_title
        elif len(documents.sample) < SAMPLE:
            documents.sample.append(document.doc_id)


def _note_choices(record: dict[str, Any], fields: Fields, name: str, note: Note) -> bool:
    """Note which field is used if a record has several ids or texts; return whether it has."""
    several = False
    for noun, keys in (("ids", fields.ids), ("texts", fields.texts)):
        first, *others = [key for key in keys if key in record]
        if others:
            note(f'{name}: {noun} are taken from "{first}", not from {", ".join(others)}')
            several = True
    return several


def _read_tsv(lines: Numbered, name: str, documents: WantedDocuments, fields: Fields, bad: Bad) -> None:
    columns = fields.columns or ("id", "text")
    id_index, text_index = columns.index("id"), columns.index("text")
    title_index = columns.index("title") if "title" in columns else None
    returns = CarriageReturns(name, lambda part: part.count(b"\t") >= len(columns) - 1)
    count = 0
    for number, raw in lines:
        if not raw.strip(BLANKS):
            continue
        count += 1
        data = without_end(raw)
        if b"\r" in data:
            returns.check(data, number)
        try:
            row = split_columns(decoded(data, name, number), columns, name, number)
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
