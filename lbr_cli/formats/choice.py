"""Choose the format of an output ranking, and check that it can be written."""

from __future__ import annotations

import re

from lbr_cli.core import Ranking
from lbr_cli.errors import UsageError
from lbr_cli.formats import RunFormat, format_of_name
from lbr_cli.formats.jsonl import Jsonl
from lbr_cli.formats.training import Training
from lbr_cli.wording import pair_name


def output_format(chosen: RunFormat | None, path: str, input_format: RunFormat) -> RunFormat:
    """Return the `chosen` format, else the format of the extension of `path`, else the format of the input.

    JSONL replaces an input format that cannot be written. Raises UsageError for training output if the input has
    another format.
    """
    if chosen and chosen.name == Training.name and input_format.name != Training.name:
        message = f"training output needs training input, which has query, pos and neg; this is {input_format.name}"
        raise UsageError(message, hint="--output-format jsonl has a line for each candidate")
    return chosen or format_of_name(path, input_format) or (input_format if input_format.can_write else Jsonl())


def check_tag(tag: str | None, format_: RunFormat) -> None:
    """Raise UsageError for a run tag that is invalid or has no effect."""
    if tag is not None and not format_.has_tag:
        raise UsageError(f"--tag: {format_.name} output has no run tag")
    if tag is not None and not re.fullmatch(r"[^\s\ud800-\udfff]+", tag):
        raise UsageError(f"--tag {tag!r}: a run tag is one word in UTF-8")


def check_ids(ranking: Ranking, input_format: RunFormat, format_: RunFormat) -> None:
    """Raise UsageError for an id that `format_` cannot represent."""
    query_id = ranking.query.query_id
    # an id that was read can be written in the same format
    for candidate in ranking.candidates if format_.name != input_format.name else ():
        reason = format_.why_not_writable(query_id, candidate.doc_id)
        if reason:
            pair = pair_name(repr(query_id), repr(candidate.doc_id))
            hint = "--output-format jsonl supports any id"
            raise UsageError(f"{pair}: {reason} cannot be written to {format_.name} output", hint=hint)
