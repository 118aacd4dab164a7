"""What a person sees of a job, on stderr: a bar, warnings, and a line at the end.

rich is loaded only where it draws, on a terminal. Elsewhere `--progress` prints a plain line now and then. Messages
are printed as they are, without markup: ids may hold anything.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress

PLAIN_SECONDS = 30.0


class Console:
    """The `Listener` of the command line. Use it in a `with` block, so that a bar never outlives its job.

    `bar` shows progress, as a bar on a terminal and as plain lines elsewhere; `quiet` silences notes.
    """

    def __init__(self, *, bar: bool, quiet: bool) -> None:
        self._quiet = quiet
        self._plain = bar and not sys.stderr.isatty()
        self._live = _live() if bar and not self._plain else None
        self._task = self._live.add_task("", total=None, rates="") if self._live else None
        self._queries = self._pairs = self._tokens = 0
        self._total_queries = self._total_pairs = 0
        self._scoring_since = self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take the bar off the screen while results are written to the same terminal."""
        if self._live is None:
            yield
            return
        self._live.stop()
        try:
            yield
        finally:
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

    def begin(self, queries: int, pairs: int) -> None:
        self._total_queries, self._total_pairs = queries, pairs
        self._scoring_since = self._last_line = time.monotonic()
        if self._live and self._task is not None:
            self._live.reset(self._task, description="scoring", total=pairs, visible=True, rates="")

    def advance(self, *, queries: int = 0, pairs: int = 0, tokens: int = 0) -> None:
        self._queries += queries
        self._pairs += pairs
        self._tokens += tokens
        if self._live and self._task is not None:
            self._live.update(self._task, advance=pairs, rates=self._rates())
        elif self._plain and time.monotonic() - self._last_line >= PLAIN_SECONDS:
            self._last_line = time.monotonic()
            self._say(f"{self._pairs}/{self._total_pairs} pairs, {self._rates()}, {self._left()}")

    def _rates(self) -> str:
        seconds = max(time.monotonic() - self._scoring_since, 1e-9)
        return (
            f"{_brief(self._pairs / seconds)} pairs/s  {_brief(self._tokens / seconds)} tokens/s  "
            f"{self._queries}/{self._total_queries} queries"
        )

    def _left(self) -> str:
        seconds = time.monotonic() - self._scoring_since
        left = seconds / self._pairs * (self._total_pairs - self._pairs) if self._pairs else 0
        return f"{int(left // 3600)}:{int(left % 3600 // 60):02}:{int(left % 60):02} left"

    def _say(self, message: str) -> None:
        if self._live:
            self._live.console.print(f"lbr: {message}", markup=False, highlight=False, soft_wrap=True)
        else:
            print_error(message)


def print_error(message: str) -> None:
    """One message on stderr; nothing where stderr is closed."""
    if sys.stderr is not None:
        sys.stderr.write(f"lbr: {message}\n")


def _brief(number: float) -> str:
    return f"{number:.1f}" if number < 100 else f"{number:.0f}" if number < 10_000 else f"{number / 1000:.0f}k"


def _live() -> Progress:
    """The bar: what is going on, how far it is, how fast, and how long it will take."""
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rates]}", markup=False),
        TimeRemainingColumn(compact=True),
        console=RichConsole(stderr=True),
        transient=True,
        expand=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
