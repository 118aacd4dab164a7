"""File formats: runs, corpora, queries and relevance judgments, one module each.

A run format is one module with a `RunFormat` and one entry in `RUN_FORMATS`.
"""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterator

from lbr_cli.core import Query
from lbr_cli.errors import InputError
from lbr_cli.formats.fields import DEFAULT_FIELDS, Fields
from lbr_cli.formats.files import decoded, numbered, without_carriage_return
from lbr_cli.formats.json_lines import json_object
from lbr_cli.formats.jsonl import Jsonl
from lbr_cli.formats.msmarco import MsMarco
from lbr_cli.formats.protocol import Line, OutputOptions, RunFormat
from lbr_cli.formats.run_json import RunJson
from lbr_cli.formats.training import Training
from lbr_cli.formats.trec import FORM as TREC
from lbr_cli.formats.trec import Trec
from lbr_cli.formats.tsv_scores import COLBERT, TEVATRON
from lbr_cli.wording import counted

# a file has the first format that matches its first data line
RUN_FORMATS: tuple[RunFormat, ...] = (RunJson(), Training(), Jsonl(), TEVATRON, COLBERT, MsMarco(), Trec())

__all__ = ["RUN_FORMATS", "Line", "OutputOptions", "RunFormat", "format_of_name", "parse_run", "run_format"]


def run_format(name: str) -> RunFormat:
    """Return the format with this name."""
    return next(format_ for format_ in RUN_FORMATS if format_.name == name)


def format_of_name(path: str, input_format: RunFormat) -> RunFormat | None:
    """Return the format for the extension of an output file, without .gz or .zst; None if no format has it.

    It is `input_format`, the format of the run, if its `kept_suffix` is the extension.
    """
    extension = os.path.splitext(path.removesuffix(".gz").removesuffix(".zst"))[1]
    if not extension:
        return None
    if extension == input_format.kept_suffix:
        return input_format
    return next((format_ for format_ in RUN_FORMATS if format_.can_write and format_.suffix == extension), None)


def parse_run(
    stream: io.BufferedReader,
    format_: RunFormat | None = None,
    query: Query | None = None,
    part: tuple[str | None, str | None] = (None, None),
    fields: Fields = DEFAULT_FIELDS,
) -> tuple[RunFormat, Iterator[Line]]:
    """Return the format of a run and its lines. Without `format_`, the format is detected from the first data line.

    `query` is the query of a run without queries, `part` the subset and the split of a run with several, and `fields`
    are the fields of candidates in JSONL. Raises InputError if no format matches, and if the format does not support
    `query`, `part` or `fields`. The iterator raises InputError for an invalid line.
    """
    name = stream.name
    lines = numbered(stream)
    head = []  # comments, which only TREC has, and the first data line
    for line in lines:
        head.append(line)
        if not _is_comment(line[1]):
            break
    if not head:
        raise InputError("holds no candidates", name)
    number, data = head[0] if _is_comment(head[-1][1]) else head[-1]
    if format_ is None:
        text = decoded(data, name, number)
        format_ = next((known for known in RUN_FORMATS if known.matches(text)), None)
        if format_ is None:
            for head_number, head_data in head:
                without_carriage_return(head_data, name, head_number)
            raise InputError("holds no candidates", name) if _is_comment(data) else _unknown(text, name, number)
    if query is not None and not isinstance(format_, Jsonl):
        hint = "--query is for JSONL without queries, or for plain text with --lines"
        message = "has queries of its own, and --query is for input without queries"
        raise InputError(message, name, number, hint=hint)
    if part != (None, None):
        if not isinstance(format_, RunJson):
            raise InputError("is not a JSON run: --subset and --split are for predictions of MTEB", name, number)
        format_ = RunJson(*part)
    if fields.chosen and not isinstance(format_, Jsonl):
        message = "has no fields that --id-field, --text-field or --title-field could name"
        raise InputError(message, name, hint="these options are for a --corpus, or for candidates in JSONL")
    if isinstance(format_, Jsonl):
        format_ = Jsonl(query, fields)
    return format_, format_.read(itertools.chain(head, lines), name)


def _is_comment(line: bytes) -> bool:
    return line.lstrip(b" \t").startswith(b"#")


def _unknown(text: str, name: str, number: int) -> InputError:
    if text.lstrip().startswith("["):
        json_object(b"[", name, number)  # raises
    fields = len(text.split())
    hint = "lines of qrels have four fields; " if fields == 4 else ""
    hint += f"a TREC run has six fields ({TREC}), an MS MARCO run three, separated by tabs (query, document, rank)"
    message = f"unknown format: this line has {counted(fields, 'field')}"
    return InputError(message, name, number, hint=f"{hint}; JSONL lines begin with {{")
