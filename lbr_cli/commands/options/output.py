"""Output options: the ranking, its format, and the manifest."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import typer

from lbr_cli.commands.command import OptionGroup, one_of
from lbr_cli.commands.options.inputs import FORMAT_NAMES
from lbr_cli.formats import RunFormat, run_format
from lbr_cli.formats.output import STDOUT


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions(OptionGroup):
    """What `lbr rerank` writes."""

    heading: ClassVar[str] = "Output"

    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File of the ranking, written when complete; .gz and .zst compress, - is standard output.",
        ),
    ] = STDOUT
    output_format: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            parser=one_of(FORMAT_NAMES),
            help=f"Format of the ranking: {', '.join(FORMAT_NAMES)}.",
            show_default="by the extension of -o, else that of RUN",
        ),
    ] = None
    tag: Annotated[
        str | None, typer.Option(metavar="TAG", help="Run tag of TREC output.", show_default="lbr-MODEL")
    ] = None
    explain: Annotated[
        bool, typer.Option("--explain", help="Add details to JSONL output, such as digits, probability or passage.")
    ] = False
    manifest: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write versions, options, checksums and counts of the job to FILE, as JSON."),
    ] = None
    no_clobber: Annotated[bool, typer.Option("--no-clobber", help="Fail if an output file exists.")] = False

    def format(self) -> RunFormat | None:
        return run_format(self.output_format) if self.output_format else None
