"""A whole job, from the files it reads to the ranking it publishes."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lbr_cli.collect import collect
from lbr_cli.core import Engine, Family, Listener, Ranking
from lbr_cli.engines import Settings, load_engine
from lbr_cli.errors import InputError, LbrError, RunError, UsageError
from lbr_cli.families.shared_words import SharedWords
from lbr_cli.formats import RunFormat, Style, format_of_name, run_format
from lbr_cli.formats.files import display_name
from lbr_cli.formats.output import Output, open_output
from lbr_cli.inputs import Inputs
from lbr_cli.models import Model, fetched
from lbr_cli.rerank import Cuts, pairs_to_score, rerank
from lbr_cli.scoring import Scorer
from lbr_cli.stream import stream

OTHER_FORMAT = "--output-format jsonl has room for any id"


@dataclass(frozen=True, slots=True)
class Job:
    """What `lbr rerank` was asked to do. `model` is None for an engine without one; `tag` None is the default."""

    inputs: Inputs
    model: Model | None
    engine: str = "local"
    settings: Settings = Settings()
    output: str = "-"
    output_format: RunFormat | None = None
    clobber: bool = True
    tag: str | None = None
    explain: bool = False
    stream: bool = False
    cuts: Cuts = Cuts()

    @property
    def model_name(self) -> str:
        return self.model.name if self.model else self.engine


def run(job: Job, listener: Listener) -> None:
    """Do it.

    Everything is read and checked before a model is loaded, or the first query where the job is a stream; each query
    is written when it is done.
    """
    started = time.monotonic()
    with open_output(job.output, clobber=job.clobber) as output:
        scorer = (_run_stream if job.stream else _run_whole)(job, output, listener)
    tally = scorer.tally
    for doubt, count in tally.doubts.items():
        listener.warn(f"{count} of {tally.pairs} pairs: {doubt}")
    queries = "1 query" if tally.queries == 1 else f"{tally.queries} queries"
    pairs = "1 pair" if tally.pairs == 1 else f"{tally.pairs} pairs"
    listener.note(
        f"{queries}, {pairs} ({tally.truncated} truncated) in {time.monotonic() - started:.1f} s "
        f"with {job.model_name} ({scorer.engine.setting})"
    )


def _run_whole(job: Job, output: Output, listener: Listener) -> Scorer:
    collection = collect(job.inputs, listener)
    format_ = output_format(job, collection.format)
    style = style_of(job, format_)
    if format_ is not collection.format:  # what came in this way can go out this way
        for ranking in collection:
            check_ids(ranking, format_)
    scorer = Scorer(*_load(job, listener), listener)
    listener.stage("checking the prompts")
    pairs, work = scorer.expect(lambda: pairs_to_score(collection, job.cuts))
    listener.begin(len(collection), pairs, work)
    _write(collection, scorer, job, format_, style, output)
    return scorer


def _run_stream(job: Job, output: Output, listener: Listener) -> Scorer:
    format_ = output_format(job, run_format("jsonl"))
    style = style_of(job, format_)
    rankings = _checked(stream(job.inputs, listener), format_)
    listener.stage("waiting for the first query")
    first = next(rankings, None)
    if first is None:
        raise InputError("holds no candidates", display_name(job.inputs.run))
    scorer = Scorer(*_load(job, listener), listener)
    listener.begin(0, 0, 0)
    try:
        _write(itertools.chain([first], rankings), scorer, job, format_, style, output)
    except LbrError as error:
        if scorer.tally.queries:  # some answers are out: the job as a whole has failed while running
            raise RunError(str(error), hint=error.hint) from error
        raise
    return scorer


def _write(
    rankings: Iterable[Ranking], scorer: Scorer, job: Job, format_: RunFormat, style: Style, output: Output
) -> None:
    """Rerank, and write each query as soon as it is done."""
    for query, rows in rerank(rankings, scorer, job.cuts):
        with scorer.listener.aside():
            output.write(format_.write(query, rows, style))


def output_format(job: Job, input_format: RunFormat) -> RunFormat:
    """The format of the results: what is asked for, or what the file's ending says, or that of the input."""
    if job.inputs.lines:
        return input_format
    return job.output_format or format_of_name(job.output) or input_format


def check_ids(ranking: Ranking, format_: RunFormat) -> None:
    """UsageError for an id that the output has no room for."""
    query_id = ranking.query.query_id
    for candidate in ranking.candidates:
        objection = format_.objection(query_id, candidate.doc_id)
        if objection:
            pair = f"query {query_id!r}, document {candidate.doc_id!r}"
            raise UsageError(f"{pair}: {objection} cannot go into {format_.name} output", hint=OTHER_FORMAT)


def _checked(rankings: Iterable[Ranking], format_: RunFormat) -> Iterator[Ranking]:
    for ranking in rankings:
        check_ids(ranking, format_)
        yield ranking


def style_of(job: Job, format_: RunFormat) -> Style:
    """How to write. UsageError for options that this format has no place for."""
    if job.explain and format_.name != "jsonl":
        raise UsageError(f"--explain needs JSONL output, not {format_.name}", hint="add --output-format jsonl")
    if job.tag is not None and format_.name != "trec":
        raise UsageError(f"--tag: {format_.name} output has no run tag")
    if job.tag is not None and not re.fullmatch(r"[^\s\ud800-\udfff]+", job.tag):
        raise UsageError(f"--tag {job.tag!r}: a run tag is one word in UTF-8")
    return Style(job.tag or f"lbr-{job.model_name}", job.explain)


def _load(job: Job, listener: Listener) -> tuple[Family, Engine]:
    if job.model is None:
        listener.note("--engine overlap counts shared words and uses no model: for trying files, not for ranking")
        return SharedWords(), load_engine(job.engine, None, job.settings)
    model = fetched(job.model, listener)
    listener.stage(f"loading {model.name}")
    return model.known_family, load_engine(job.engine, model, job.settings)
