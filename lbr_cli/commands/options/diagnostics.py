"""Diagnostics options: dry runs, progress and messages."""

import sys
from dataclasses import dataclass
from typing import Annotated, ClassVar

import typer

from lbr_cli.commands.command import OptionGroup
from lbr_cli.progress import Console

Quiet = Annotated[bool, typer.Option("--quiet", help="Print only warnings and errors on standard error.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagnosticsOptions(OptionGroup):
    heading: ClassVar[str] = "Diagnostics"

    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and check all input, print counts and lengths of prompts, and exit.")
    ] = False
    show_prompt: Annotated[bool, typer.Option("--show-prompt", help="Print the prompt of the first pair and exit.")] = (
        False
    )
    progress: Annotated[
        bool | None,
        typer.Option(
            "--progress/--no-progress", help="Show progress on standard error.", show_default="if it is a terminal"
        ),
    ] = None
    quiet: Quiet = False

    def __post_init__(self) -> None:
        if self.dry_run:
            self.refuse(("show_prompt",), "--dry-run makes no ranking")

    def console(self, unit: str) -> Console:
        bar = self.progress if self.progress is not None else sys.stderr is not None and sys.stderr.isatty()
        return Console(bar=bar and not self.quiet, quiet=self.quiet, unit=unit)
