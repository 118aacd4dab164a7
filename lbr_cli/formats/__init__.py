"""Every form in which runs, corpora and queries come and go, one file each."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

from lbr_cli.core import Query
from lbr_cli.errors import InputError
from lbr_cli.formats.files import Sums, decoded, display_name, numbered, open_input
from lbr_cli.formats.jsonl import Jsonl
from lbr_cli.formats.line_ends import without_carriage_return
from lbr_cli.formats.lines import PlainLines
from lbr_cli.formats.msmarco import MsMarco
from lbr_cli.formats.records import json_object
from lbr_cli.formats.runs import Line, RunFormat, Style
from lbr_cli.formats.trec import Trec

# asked in this order whether a first line is theirs
RUN_FORMATS: tuple[RunFormat, ...] = (Jsonl(), MsMarco(), Trec())

__all__ = ["RUN_FORMATS", "Line", "RunFormat", "Style", "format_of_name", "open_lines", "open_run", "run_format"]


def run_format(name: str) -> RunFormat:
    """The format that a user names."""
    return next(known for known in RUN_FORMATS if known.name == name)


def format_of_name(path: str) -> RunFormat | None:
    """The format that the ending of an output file asks for, looked at before .gz or .zst."""
    for compression in (".gz", ".zst"):
        path = path.removesuffix(compression)
    ending = os.path.splitext(path)[1]
    return next((known for known in RUN_FORMATS if known.suffix == ending), None)


def open_lines(
    path: str, query: Query, warn: Callable[[str], None], sums: Sums | None = None
) -> tuple[RunFormat, Iterator[Line]]:
    """Read plain text, a document a line, for one query; `warn` is called if some of it is not UTF-8."""
    format_ = PlainLines(query, warn)
    return format_, format_.read(enumerate(open_input(path, sums, exact=True), 1), display_name(path))


def open_run(
    path: str, chosen: RunFormat | None = None, given: Query | None = None, sums: Sums | None = None
) -> tuple[RunFormat, Iterator[Line]]:
    """Read the run at `path`: its format, `chosen` or told by the first data line, and its lines.

    `given` is the one query of input that has none, which only JSONL can be; `sums` hears what is read.

    Raises InputError where the first line fits no format; the iterator raises it for any later line that does not
    fit the format of the first.
    """
    name = display_name(path)
    lines = numbered(open_input(path, sums))
    # comments belong to TREC alone: in another format a line that begins with # is a line
    seen: list[tuple[int, bytes]] = []
    told = None
    for number, data in lines:
        seen.append((number, data))
        told = told or (number, data)
        if not data.lstrip(b" \t").startswith(b"#"):
            told = number, data
            break
    if told is None:
        raise InputError("holds no candidates", name)
    number, data = told
    if chosen is None:
        text = decoded(data, name, number)
        chosen = next((known for known in RUN_FORMATS if known.matches(text)), None)
        if chosen is None:
            for number, data in seen:
                without_carriage_return(data, name, number)
            if data.lstrip(b" \t").startswith(b"#"):
                raise InputError("holds no candidates", name)
            raise _unknown(text, name, number)
    if given is not None:
        if chosen.name != Jsonl.name:
            hint = "it is for JSONL without queries, or for plain text with --lines"
            raise InputError("has queries of its own, and --query is for input that has none", name, number, hint=hint)
        chosen = Jsonl(given)
    return chosen, chosen.read(itertools.chain(seen, lines), name)


def _unknown(text: str, name: str, number: int) -> InputError:
    if text.lstrip().startswith("["):
        json_object(b"[", name, number)  # raises
    fields = len(text.split())
    message = f"no format that lbr reads begins with this line of {fields} field{'s' * (fields != 1)}"
    hint = (
        "a TREC run has six fields (query Q0 document rank score tag), an MS MARCO run three, separated by tabs "
        "(query, document, rank); JSONL lines begin with {"
    )
    if fields == 4:
        hint = f"four fields are judgments; {hint}"
    return InputError(message, name, number, hint=hint)
