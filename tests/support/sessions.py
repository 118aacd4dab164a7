"""Run the terminal sessions of a page: `python tests/support/sessions.py docs/cache.md` writes their output into it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from support.fork_server import program_environment
from support.pages import Page
from support.paths import ROOT


def outputs(page: Page, folder: Path, fork_server: str | None = None) -> Iterator[str]:
    """Yield the output of each step of a page, run one after the other in a folder that gets the samples.

    `lbr` is a forked process or, without a server, a new interpreter.
    """
    shutil.copytree(ROOT / "samples", folder / "samples")
    environment = _environment(folder, fork_server)
    for command, _ in page.steps:
        if command.startswith("cd "):
            folder /= command.removeprefix("cd ")
            yield ""
            continue
        ended = subprocess.run(
            ["bash", "-c", f"{{ {command}\n}} 2>&1"], cwd=folder, env=environment, capture_output=True, text=True
        )
        yield ended.stdout


def _environment(folder: Path, fork_server: str | None) -> dict[str, str]:
    start = f"{sys.executable} -m lbr_cli"
    if fork_server is not None:
        start = f"{sys.executable} -S {ROOT / 'tests' / 'support' / 'fork_server.py'} run {fork_server}"
    script = folder / "bin" / "lbr"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec {start} "$@"\n')
    script.chmod(0o755)
    return program_environment() | {
        "PATH": f"{script.parent}:{os.environ['PATH']}",
        "LBR_CACHE": "1",
        "LBR_CACHE_DIR": str(folder / "cache"),
        "LBR_DTYPE": "bfloat16",  # as in the pages; some processors would choose float32
    }


def main() -> None:
    """Replace the outputs in the pages that the arguments name. Figures of time are those of this machine."""
    for name in sys.argv[1:]:
        page = Page(Path(name).resolve())
        text, start = page.text, 0
        with tempfile.TemporaryDirectory() as folder:
            for (command, old), new in zip(page.steps, list(outputs(page, Path(folder))), strict=True):
                shown = "$ " + command.replace("\n", "\n> ") + "\n"
                start = text.index(shown + old, start)
                text = text[:start] + shown + new + text[start + len(shown + old) :]
                start += len(shown + new)
        page.path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
