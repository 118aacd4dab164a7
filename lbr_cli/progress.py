"""Messages and progress on stderr: a bar, warnings, and a summary.

rich is loaded only to draw a bar, on a terminal that can move its cursor. Elsewhere `--progress` prints a plain line
every 30 seconds. A message is one line without markup, and its control characters are escaped, because ids and file
names may contain any character.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from lbr_cli.descriptors import write_all

if TYPE_CHECKING:
    from rich.progress import Progress

PLAIN_SECONDS = 30.0
DUMB = {"", "dumb", "unknown"}  # values of TERM, in lower case: terminals that cannot move the cursor
NAMED_ESCAPES = {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}
# control characters (C0, DEL, C1), and those that begin a line or change the direction of the text
CONTROLS = (*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
# not 0xDC80 to 0xDCFF, which represent the bytes of file names that are not UTF-8 and are printed as these bytes
SURROGATES = (*range(0xD800, 0xDC80), *range(0xDD00, 0xE000))
ESCAPES = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in (*CONTROLS, *SURROGATES)
} | NAMED_ESCAPES


@dataclass(slots=True)
class _Counts:
    """Amounts of work, in total or done."""

    queries: int = 0
    pairs: int = 0
    cached: int = 0
    tokens: int = 0

    @property
    def computed(self) -> int:
        return self.pairs - self.cached


class Console:
    """The progress display of the command line. Use it in a `with` block, so that a bar never outlives its job.

    `bar` shows progress, as a bar on a terminal and as plain lines elsewhere; `quiet` silences notes; `unit` is the
    word for pairs in the counts.
    """

    def __init__(self, *, bar: bool, quiet: bool, unit: str = "pairs") -> None:
        self._quiet = quiet
        self._unit = unit
        self._display = _new_display() if bar and _can_draw() else None
        self._plain = bar and self._display is None
        # read here, because a job redirects sys.stdout to stderr
        self._shares_terminal = self._display is not None and sys.stdout is not None and sys.stdout.isatty()
        self._total, self._done = _Counts(), _Counts()
        self._began = self._last_line = time.monotonic()
        self._stage = ""

    def __enter__(self) -> Self:
        if self._display:
            self._display.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._display:
            self._display.stop()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Hide the bar while results are written, if stdout is a terminal as well."""
        if self._display is None or not self._shares_terminal:
            yield
            return
        self._display.stop()
        yield
        self._display.start()

    def status(self, what: str) -> None:
        if self._display:
            self._update(description=printable(what), visible=bool(what))
        elif self._plain and what not in ("", self._stage):
            self._print(what)
        self._stage = what

    def note(self, message: str) -> None:
        if not self._quiet:
            self._print(message)

    def warn(self, message: str) -> None:
        self._print(f"warning: {message}")

    def start(self, queries: int, pairs: int, cached: int) -> None:
        self._total = _Counts(queries, pairs, cached)
        self._began = self._last_line = time.monotonic()
        self._update(description="", total=self._total.computed or None, counts=self._counts(), visible=True)

    def advance(self, *, queries: int = 0, pairs: int = 0, cached: int = 0, tokens: int = 0) -> None:
        self._done.queries += queries
        self._done.pairs += pairs
        self._done.cached += cached
        self._done.tokens += tokens
        if self._display:
            self._update(description="", completed=self._done.computed, counts=self._counts())
        elif self._plain and time.monotonic() - self._last_line >= PLAIN_SECONDS:
            self._last_line = time.monotonic()
            self._print(self._counts())

    def _update(self, **fields: Any) -> None:
        if self._display:
            self._display.update(self._display.task_ids[0], **fields)

    def _counts(self) -> str:
        """Return "120/500 pairs (80 cached)  4.2/s  735 tokens/s  1/5 queries  0:01:31"; the time left comes last.

        Speed and time left are those of the pairs that are not cached.
        """
        done, total = self._done, self._total
        cached = f" ({done.cached} cached)" if done.cached else ""
        if not total.pairs:  # a stream: its length is unknown
            return f"{done.pairs} {self._unit}{cached}  {done.queries} queries"
        seconds = max(time.monotonic() - self._began, 1e-9)
        left = int(seconds / done.computed * max(total.computed - done.computed, 0)) if done.computed else 0
        return (
            f"{done.pairs}/{total.pairs} {self._unit}{cached}  {_brief(done.computed / seconds)}/s  "
            f"{_brief(done.tokens / seconds)} tokens/s  {done.queries}/{total.queries} queries  "
            f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02}"
        )

    def _print(self, message: str) -> None:
        if self._display:
            text = f"lbr: {printable(message)}"
            self._display.console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)
        else:
            print_error(message)


def print_error(message: str) -> None:
    """Print one message as one line on stderr, in UTF-8 whatever the locale.

    File names that are not UTF-8 are printed as their bytes. If stderr is closed or full, the message is lost, and the
    job continues.
    """
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            write_all(sys.stderr.fileno(), f"lbr: {printable(message)}\n".encode("utf-8", "surrogateescape"))


def printable(text: str) -> str:
    """Return `text` as one line: control characters are escaped as in Python, "\\n", "\\x1b", "\\u202e"."""
    return text.translate(ESCAPES)


def _can_draw() -> bool:
    """Return whether stderr is a terminal that can move its cursor."""
    if sys.stderr is None or not sys.stderr.isatty():
        return False
    return os.environ.get("TERM", "").lower() not in DUMB


def _brief(number: float) -> str:
    return f"{number:.1f}" if number < 100 else f"{number:.0f}" if number < 10_000 else f"{number / 1000:.0f}k"


def _new_display() -> Progress:
    """Return a progress display of one task: the current stage, then a bar, the counts and the speed."""
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[counts]}", markup=False),
        console=RichConsole(stderr=True, force_terminal=True, force_interactive=True, _environ=_environment()),
        transient=True,
        expand=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    progress.add_task("", total=None, counts="")
    return progress


def _environment() -> dict[str, str]:
    """Return the environment without an invalid size of the terminal: rich prints nothing if COLUMNS is 0."""
    size = {"COLUMNS", "LINES"}
    return {name: text for name, text in os.environ.items() if name not in size or re.fullmatch("[1-9][0-9]*", text)}
