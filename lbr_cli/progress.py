"""What a person sees of a job, on stderr: a bar, warnings, and a line at the end.

rich is loaded only where it draws, on a terminal. Elsewhere `--progress` prints a plain line now and then. Messages
are printed as they are, without markup: ids may hold anything.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PLAIN_SECONDS = 30.0


@dataclass(slots=True)
class _Counts:
    """How much there is, or how much is done."""

    queries: int = 0
    pairs: int = 0
    cached: int = 0
    tokens: int = 0
    work: int = 0


class Console:
    """The `Listener` of the command line. Use it in a `with` block, so that a bar never outlives its job.

    `bar` shows progress, as a bar on a terminal and as plain lines elsewhere; `quiet` silences notes; `unit` is what a
    job's pairs are to a person.
    """

    def __init__(self, *, bar: bool, quiet: bool, unit: str = "pairs") -> None:
        self._quiet = quiet
        self._unit = unit
        self._plain = bar and not _is_terminal()
        self._live: Progress | None = None
        self._task: TaskID | None = None
        if bar and not self._plain:
            self._live, self._task = _live()
        self._total, self._done = _Counts(), _Counts()
        self._began = self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Take the bar away while results are written, where they go to the same terminal."""
        if self._live is None or not sys.stdout.isatty():
            yield
            return
        self._live.stop()
        yield
        self._live.start()

    def stage(self, what: str) -> None:
        if self._live and self._task is not None:
            self._live.update(self._task, description=what, visible=bool(what))
        elif self._plain and what:
            self._say(what)

    def note(self, message: str) -> None:
        if not self._quiet:
            self._say(message)

    def warn(self, message: str) -> None:
        self._say(f"warning: {message}")

    def begin(self, queries: int, pairs: int, work: int) -> None:
        self._total = _Counts(queries, pairs, work=work)
        self._began = self._last_line = time.monotonic()
        if self._live and self._task is not None:
            self._live.update(self._task, description="", total=work or None, counts=self._counts(), visible=True)

    def advance(self, *, queries: int = 0, pairs: int = 0, cached: int = 0, tokens: int = 0, work: int = 0) -> None:
        self._done.queries += queries
        self._done.pairs += pairs
        self._done.cached += cached
        self._done.tokens += tokens
        self._done.work += work
        if self._live and self._task is not None:
            self._live.update(self._task, description="", completed=self._done.work, counts=self._counts())
        elif self._plain and time.monotonic() - self._last_line >= PLAIN_SECONDS:
            self._last_line = time.monotonic()
            self._say(self._counts())

    def _counts(self) -> str:
        """ "120/500 pairs (80 cached)  4.2/s  735 tokens/s  1/5 queries  0:01:31", the last being the time left.

        Speed is that of computing.
        """
        done, total = self._done, self._total
        cached = f" ({done.cached} cached)" if done.cached else ""
        if not total.pairs:  # a stream: nobody knows how much is to come
            return f"{done.pairs} {self._unit}{cached}  {done.queries} queries"
        seconds = max(time.monotonic() - self._began, 1e-9)
        left = int(seconds / done.work * max(total.work - done.work, 0)) if done.work else 0
        return (
            f"{done.pairs}/{total.pairs} {self._unit}{cached}  {_brief((done.pairs - done.cached) / seconds)}/s  "
            f"{_brief(done.tokens / seconds)} tokens/s  {done.queries}/{total.queries} queries  "
            f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02}"
        )

    def _say(self, message: str) -> None:
        if self._live:
            self._live.console.print(f"lbr: {message}", markup=False, highlight=False, soft_wrap=True)
        else:
            print_error(message)


def print_error(message: str) -> None:
    """One message on stderr, in UTF-8 whatever the locale; file names come out as they came in.

    Where nobody can be told, because stderr is closed or full, the job goes on.
    """
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), f"lbr: {message}\n".encode("utf-8", "surrogateescape"))


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _brief(number: float) -> str:
    return f"{number:.1f}" if number < 100 else f"{number:.0f}" if number < 10_000 else f"{number / 1000:.0f}k"


def _live() -> tuple[Progress, TaskID]:
    """A line that says what is going on, then a bar and how far and how fast it goes."""
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[counts]}", markup=False),
        console=RichConsole(stderr=True),
        transient=True,
        expand=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    return progress, progress.add_task("", total=None, counts="")
