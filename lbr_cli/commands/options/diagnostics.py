"""Diagnostics options: dry runs, progress and messages."""

import sys
from dataclasses import dataclass
from typing import ClassVar

from lbr_cli.commands.command import OptionGroup, flag, option
from lbr_cli.progress import Console

QUIET = flag("Print only warnings and errors on standard error.")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagnosticsOptions(OptionGroup):
    heading: ClassVar[str] = "Diagnostics"

    dry_run: bool = flag("Read and check all input, print counts and lengths of prompts, and exit.")
    show_prompt: bool = flag("Print the prompt of the first pair and exit.")
    progress: bool | None = option(None, "Show progress on standard error.", unset="if it is a terminal")
    quiet: bool = QUIET

    def __post_init__(self) -> None:
        if self.dry_run:
            self.refuse(("show_prompt",), "--dry-run makes no ranking")

    def console(self, unit: str) -> Console:
        bar = self.progress if self.progress is not None else sys.stderr is not None and sys.stderr.isatty()
        return Console(bar=bar and not self.quiet, quiet=self.quiet, unit=unit)
