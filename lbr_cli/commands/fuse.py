"""`lbr fuse`: fuse several runs into one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from typer import Argument

from lbr_cli.commands.command import OptionGroup, command, option
from lbr_cli.commands.options.diagnostics import QUIET
from lbr_cli.commands.options.inputs import FUSE, FUSE_K, INPUT_FORMAT, SPLIT, SUBSET, check_inputs
from lbr_cli.commands.options.output import RankingOptions
from lbr_cli.errors import UsageError
from lbr_cli.formats import run_format
from lbr_cli.fuse import TAG, FuseJob
from lbr_cli.fuse import fuse as run
from lbr_cli.inputs import Inputs, Policies
from lbr_cli.progress import Console


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions(OptionGroup):
    """The runs, and how to fuse them."""

    heading: ClassVar[str] = "Input"

    runs: list[str] = Argument(..., metavar="RUN", help="Runs (TREC, TSV, JSON) or JSONL; - is standard input.")
    fuse: Literal["rrf"] = FUSE
    fuse_k: int = FUSE_K
    input_format: str | None = INPUT_FORMAT
    subset: str | None = SUBSET
    split: str | None = SPLIT
    duplicates: Literal["warn", "error"] = option(
        None, "Duplicate pairs in a RUN: warn and use the first, or fail.", "warn"
    )

    def __post_init__(self) -> None:
        if len(self.runs) == 1:
            raise UsageError("one RUN, and a fusion needs several", hint="lbr fuse bm25.trec dense.trec -o fused.trec")
        check_inputs({"run": self.runs})


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedOptions(RankingOptions):
    """The fused run."""

    tag: str | None = option("TAG", "Run tag of TREC output.", unset=TAG)
    top_k: int | None = option("K", "Write only the first K candidates of each query.", min=1)


@command
def fuse(inputs: RunOptions, output: FusedOptions, quiet: bool = QUIET) -> None:
    """Fuse several runs into one, without a model.

    The fused run has the candidates of all runs. The score of a document is the sum of 1/(k+rank) over the runs.

    Examples:
        lbr fuse bm25.trec dense.trec -o fused.trec
        lbr fuse bm25.trec dense.trec --fuse-k 10 --top-k 100 > fused.trec
    """
    job = FuseJob(
        inputs=Inputs(
            runs=tuple(inputs.runs),
            format=run_format(inputs.input_format) if inputs.input_format else None,
            part=(inputs.subset, inputs.split),
            policies=Policies(duplicates=inputs.duplicates),
            fuse_k=inputs.fuse_k,
        ),
        output=output.output,
        output_format=output.format(),
        clobber=not output.no_clobber,
        tag=output.tag,
        top_k=output.top_k,
    )
    with Console(bar=False, quiet=quiet) as console:
        run(job, console)
