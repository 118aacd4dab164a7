"""Locations in runs, for messages. Lines of several runs are numbered consecutively."""

from __future__ import annotations

from bisect import bisect_left


class Locations:
    """Files and lines by number. In the first run, the number is the line number of the file."""

    def __init__(self, run: str | None = None) -> None:
        self._runs: list[str] = []
        self._starts: list[int] = []  # the number before the first line of each run
        if run is not None:
            self.add(run, 0)

    def add(self, run: str, start: int) -> None:
        """Add a run, whose first line has the number `start` + 1."""
        self._runs.append(run)
        self._starts.append(start)

    @property
    def name(self) -> str:
        """The names of all runs."""
        return ", ".join(self._runs)

    def of(self, number: int) -> tuple[str, int]:
        """Return the file and the line of a number."""
        index = bisect_left(self._starts, number) - 1
        return self._runs[index], number - self._starts[index]

    def text(self, number: int) -> str:
        """Return `FILE:LINE`."""
        return "{}:{}".format(*self.of(number))

    def short(self, number: int) -> str:
        """Return `line LINE`, or `FILE:LINE` if there are several runs."""
        return f"line {number}" if len(self._runs) == 1 else self.text(number)
