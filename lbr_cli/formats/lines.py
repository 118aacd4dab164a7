"""Plain text: every line that is not blank is a document for the one query, and is written byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from lbr_cli.core import Candidate, Document, Query, RankedCandidate
from lbr_cli.formats.files import BLANKS, CarriageReturnError, without_end
from lbr_cli.formats.protocol import Line, OutputOptions, RunFormat
from lbr_cli.wording import counted

MARK = "\ufeff"
RAW = "line"  # the key of a candidate's `extra` that holds the bytes of its line


class PlainLines(RunFormat):
    """The format of `--lines`. It is never detected, because it fits any text."""

    name = "lines"

    def __init__(self, query: Query, warn: Callable[[str], None]) -> None:
        self._query = query
        self._warn = warn

    def matches(self, line: str) -> bool:
        return False

    def read(self, lines: Iterable[tuple[int, bytes]], file: str) -> Iterator[Line]:
        """Yield the candidates. Bytes that are not UTF-8 are replaced in the text that is scored, with a warning."""
        invalid: list[int] = []
        count = separated = 0
        for number, raw in lines:
            if not raw.strip(BLANKS):
                continue
            count += 1
            data = without_end(raw)
            if count == 1 and b"\r" in data.rstrip(b"\r"):
                separated = number
            text = data.decode("utf-8", "replace")
            if "\ufffd" in text and text.encode() != data:
                invalid.append(number)
            doc_id = str(number)
            yield Line(number, self._query, Candidate(doc_id, Document(doc_id, text.lstrip(MARK)), extra={RAW: raw}))
        # in a file of several lines a carriage return is part of a text, as in the log of a progress bar
        if count == 1 and separated:
            raise CarriageReturnError(file, separated)
        if invalid:
            what = counted(len(invalid), "line is", "lines are")
            self._warn(f"{file}:{invalid[0]}: invalid UTF-8; {what} scored with replacement characters")

    def write(self, query: Query, rows: Sequence[RankedCandidate], options: OutputOptions) -> bytes:
        lines = [row.candidate.extra[RAW] for row in rows if row.candidate.extra]
        return b"".join(line if line.endswith(b"\n") else line + b"\n" for line in lines)
