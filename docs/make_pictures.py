"""Write `docs/progress.svg` and `docs/evaluate.svg` from real runs: python docs/make_pictures.py

Needs tmux, and lbr with the extras `minilm` and `eval`. tmux is the terminal, so the pictures show what users see.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
COLUMNS, LINES = 100, 30
SECONDS = 300  # for a command, which may import torch for the first time
RERANK = "lbr rerank run.trec --corpus docs.jsonl --model minilm --no-cache -o reranked.trec"
EVALUATE = "lbr evaluate --qrels qrels.txt run.trec reranked.trec"
# of rich, without the fonts that a page would load from elsewhere
SVG = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""


class Terminal:
    """A shell in tmux."""

    def __init__(self, socket: str, folder: str) -> None:
        self._tmux = ["tmux", "-L", socket, "-f", "/dev/null"]
        environment = f"PATH={Path(sys.executable).parent}:$PATH PS1='$ ' TERM=xterm-256color"
        shell = f"env {environment} bash --norc --noprofile"
        self.run("new-session", "-d", "-x", str(COLUMNS), "-y", str(LINES), "-c", folder, shell)

    def run(self, *arguments: str) -> str:
        return subprocess.run([*self._tmux, *arguments], check=True, capture_output=True, text=True).stdout

    def type(self, line: str) -> None:
        self.run("send-keys", "-l", line)
        self.run("send-keys", "Enter")

    def screen(self) -> str:
        """Return the screen with its colours as ANSI codes."""
        return self.run("capture-pane", "-e", "-p").rstrip()

    def wait(self, shows: Callable[[str], bool]) -> str:
        """Return the first screen that `shows` accepts."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            screen = self.screen()
            if shows(Text.from_ansi(screen).plain):
                return screen
            time.sleep(0.05)
        sys.exit(f"not seen within {SECONDS} s; the screen:\n{screen}")


@contextmanager
def terminal(folder: str) -> Iterator[Terminal]:
    one = Terminal(f"lbr-{Path(folder).name}", folder)
    try:
        yield one
    finally:
        one.run("kill-server")


def picture(name: str, screen: str, title: str) -> None:
    """Write a screen as an SVG."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(screen), crop=True)
    path = ROOT / "docs" / name
    path.write_text(console.export_svg(title=title, code_format=SVG, unique_id=path.stem))


def is_half_done(screen: str) -> bool:
    """Whether the progress bar counts between a third and nine tenths of the pairs."""
    counts = re.search(r"(\d+)/(\d+) pairs", screen)
    return counts is not None and 0.3 <= int(counts[1]) / int(counts[2]) <= 0.9


def is_done(screen: str) -> bool:
    """Whether the last line is a prompt, and there is more than one."""
    lines = screen.splitlines()
    return len(lines) > 1 and lines[-1].strip() == "$"


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = shutil.copytree(ROOT / "samples", Path(scratch) / "samples")
        with terminal(str(folder)) as one:
            one.wait(lambda screen: screen.strip() == "$")
            one.type(RERANK)
            picture("progress.svg", one.wait(is_half_done), "lbr rerank")
            one.wait(is_done)
            one.run("send-keys", "C-l")
            one.wait(lambda screen: screen.strip() == "$")
            one.type(EVALUATE)
            screen = one.wait(is_done)
            picture("evaluate.svg", screen.rpartition("\n")[0], "lbr evaluate")


if __name__ == "__main__":
    main()
