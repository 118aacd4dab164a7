"""Corpora: JSONL as BEIR, Anserini and MS MARCO v2 write it, or TSV.

A corpus is read once, from front to back, and only what the run names is kept: memory holds the wanted texts and
nothing else. The JSONL loop is flat because it decides how fast lbr reads (`benchmarks/reading.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from lbr_cli.core import Document
from lbr_cli.errors import InputError, UsageError
from lbr_cli.formats.files import BLANKS, Sums, decoded, display_name, open_input, without_end
from lbr_cli.formats.jsonl import TEXTS
from lbr_cli.formats.line_ends import CarriageReturns, has_tabs
from lbr_cli.formats.records import as_id, is_json, json_kind, json_object

IDS = ("_id", "id", "doc_id", "docno", "pid", "docid")
SAMPLE = 3


@dataclass(frozen=True, slots=True)
class Fields:
    """Where a corpus keeps what is wanted: of each, the first name that is present counts.

    `columns` names the columns of a TSV file in order; names other than id, title and text are passed over, and the
    last column takes the rest of the line, tabs included. None is id and text. `chosen` holds the options that the
    user has given for JSONL, by their names on the command line.
    """

    ids: tuple[str, ...] = IDS
    texts: tuple[str, ...] = TEXTS
    title: str = "title"
    columns: tuple[str, ...] | None = None
    chosen: tuple[str, ...] = ()


@dataclass(slots=True)
class Texts:
    """The documents that are `wanted` and were found, where each stands, and some ids of what else there was."""

    wanted: Container[str]
    documents: dict[str, Document] = field(default_factory=dict)
    places: dict[str, tuple[str, int]] = field(default_factory=dict)
    sample: list[str] = field(default_factory=list)
    titled: bool = False  # whether a wanted document has the title field

    def add(self, document: Document, file: str, line: int) -> None:
        """Keep a document; InputError when another text stands under its id."""
        known = self.documents.setdefault(document.doc_id, document)
        if known is document:
            self.places[document.doc_id] = (file, line)
        elif known != document:
            place = "{}:{}".format(*self.places[document.doc_id])
            raise InputError(f"document {document.doc_id} has another text at {place}", file, line)


def read_corpus(
    path: str,
    texts: Texts,
    fields: Fields,
    note: Callable[[str], None],
    bad: Callable[[InputError], None],
    sums: Sums | None = None,
) -> bool | None:
    """Add to `texts` the documents of the corpus at `path` that it wants.

    Return True for JSONL, False for TSV, None if no line shows which. `note` is called with a choice between fields.
    `bad` is called with each line that cannot be read, wanted or not, as an InputError with file and line, and raises
    it or returns. `sums` adds up every byte.
    """
    name = display_name(path)
    with open_input(path, sums) as stream:
        lines = enumerate(stream, 1)
        seen = []
        jsonl = None
        while jsonl is None and (line := next(lines, None)):
            seen.append(line)
            # with --tsv-columns any line but a whole JSON object is TSV
            jsonl = is_json(line[1]) if fields.columns is None else _is_object(line[1])
        again = itertools.chain(seen, lines)
        if jsonl:
            _read_jsonl(again, name, texts, fields, note, bad)
        else:
            _read_tsv(again, name, texts, fields, bad)
        return jsonl


def _is_object(line: bytes) -> bool | None:
    """Whether a line is a JSON object; None for a blank line."""
    if not line.strip(BLANKS):
        return None
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def check_fields(fields: Fields, read: Mapping[str, bool | None], texts: Texts, warn: Callable[[str], None]) -> None:
    """UsageError for options that have no effect on the corpora that were `read`; `warn` of a title field never met.

    `read` holds what `read_corpus` returned for each.
    """
    kinds = set(read.values())
    names = ", ".join(map(display_name, read))
    are = "is" if len(read) == 1 else "are"
    if fields.chosen and False in kinds and True not in kinds:
        raise UsageError(f"{fields.chosen[0]} has no effect: {names} {are} TSV", hint="--tsv-columns names its columns")
    if fields.columns is not None and True in kinds and False not in kinds:
        hint = "--id-field, --text-field and --title-field name its keys"
        raise UsageError(f"--tsv-columns has no effect: {names} {are} JSONL", hint=hint)
    if "--title-field" in fields.chosen and texts.documents and not texts.titled:
        warn(f'{names}: no document of the run has the title field "{fields.title}"')


def _read_jsonl(
    lines: Iterable[tuple[int, bytes]],
    name: str,
    texts: Texts,
    fields: Fields,
    note: Callable[[str], None],
    bad: Callable[[InputError], None],
) -> None:
    loads, wanted = orjson.loads, texts.wanted
    ids, bodies, title_key = fields.ids, fields.texts, fields.title
    told = False
    for number, raw in lines:
        try:
            try:
                record = loads(raw)
            except orjson.JSONDecodeError:
                if not raw.strip(BLANKS):
                    continue
                record = json_object(raw, name, number)  # says what is wrong, if it is
            if type(record) is not dict:
                record = json_object(raw, name, number)
            for id_key in ids:
                if id_key in record:
                    break
            else:
                raise InputError(f"no document id ({', '.join(ids)})", name, number, hint=_field_hint(record, "id"))
            for text_key in bodies:
                if text_key in record:
                    break
            else:
                raise InputError(f"no text ({', '.join(bodies)})", name, number, hint=_field_hint(record, "text"))
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
            texts.add(Document(doc_id, text, title or ""), name, number)
            texts.titled = texts.titled or title_key in record
            told = told or _tell_choice(record, fields, name, note)
        elif len(texts.sample) < SAMPLE:
            texts.sample.append(doc_id)


def _tell_choice(record: dict[str, Any], fields: Fields, name: str, note: Callable[[str], None]) -> bool:
    """Say which of several fields were taken, if there are several."""
    told = False
    for what, keys in (("ids", fields.ids), ("texts", fields.texts)):
        if len(record.keys() & keys) > 1:
            present = [key for key in keys if key in record]
            note(f'{name}: {what} are taken from "{present[0]}", not from {", ".join(present[1:])}')
            told = True
    return told


def _field_hint(record: dict[str, Any], what: str) -> str:
    keys = ", ".join(list(record)[:8])
    return f"name the field with --{what}-field; the line has {keys}" if keys else ""


def _read_tsv(
    lines: Iterable[tuple[int, bytes]],
    name: str,
    texts: Texts,
    fields: Fields,
    bad: Callable[[InputError], None],
) -> None:
    columns = fields.columns or ("id", "text")
    id_place, text_place = columns.index("id"), columns.index("text")
    title_place = columns.index("title") if "title" in columns else None
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
        doc_id = row[id_place]
        if doc_id in texts.wanted:
            title = row[title_place] if title_place is not None else ""
            texts.add(Document(doc_id, row[text_place], title), name, number)
        elif len(texts.sample) < SAMPLE:
            texts.sample.append(doc_id)
    returns.finish(count)
