"""Fuse several runs into one, without a model and without texts."""

from __future__ import annotations

import time
from dataclasses import dataclass

from lbr_cli.core import Progress, RankedCandidate
from lbr_cli.formats import OutputOptions, RunFormat
from lbr_cli.formats.choice import check_ids, check_tag, output_format
from lbr_cli.formats.input_files import InputFiles
from lbr_cli.formats.output import STDOUT, open_output
from lbr_cli.formats.overwrite import MAIN, WrittenFiles
from lbr_cli.inputs import Inputs
from lbr_cli.inputs.load import load_candidates
from lbr_cli.ordering import first_stage_order
from lbr_cli.wording import counted

TAG = "lbr-rrf"  # the default tag


@dataclass(frozen=True, slots=True)
class FuseJob:
    """The settings of a job. `tag` is None for the default tag, `top_k` to write all candidates of each query."""

    inputs: Inputs
    output: str = STDOUT
    output_format: RunFormat | None = None
    clobber: bool = True
    tag: str | None = None
    top_k: int | None = None


def fuse(job: FuseJob, progress: Progress) -> None:
    """Read and check all runs, then write the fused run. The output file appears only when it is complete."""
    started = time.monotonic()
    files = InputFiles(WrittenFiles({MAIN: job.output}))
    for path in job.inputs.runs:
        files.check("run", path, replaceable_by=(MAIN,))
    pairs = 0
    with open_output(job.output, progress.warn, clobber=job.clobber) as output:
        run = load_candidates(job.inputs, files, progress)
        format_ = output_format(job.output_format, job.output, run.format)
        check_tag(job.tag, format_)
        for ranking in run.rankings:
            check_ids(ranking, run.format, format_)
        options = OutputOptions(job.tag or TAG, is_first_stage=True)
        for ranking in run.rankings:
            ordered = first_stage_order(ranking.candidates)[: job.top_k]
            rows = [RankedCandidate(candidate, rank, rank, None) for rank, candidate in enumerate(ordered, 1)]
            output.write(format_.write(ranking.query, rows, options))
            pairs += len(rows)
    seconds = time.monotonic() - started
    queries = counted(len(run.rankings), "query", "queries")
    progress.note(f"{queries}, {counted(pairs, 'pair')} of {len(job.inputs.runs)} runs in {seconds:.1f} s")
