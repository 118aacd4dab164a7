"""A whole job, from the files it reads to the ranking it publishes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from lbr_cli.collect import Inputs, collect
from lbr_cli.core import Engine, Family, Listener, Ranking
from lbr_cli.engines import Settings, load_engine
from lbr_cli.errors import UsageError
from lbr_cli.families import Classifier, family
from lbr_cli.formats import RunFormat, Style, format_of_name
from lbr_cli.formats.output import open_output
from lbr_cli.models import Model, fetched
from lbr_cli.rerank import Cuts, pairs_to_score, rerank
from lbr_cli.scoring import Scorer


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
    cuts: Cuts = Cuts()

    @property
    def model_name(self) -> str:
        return self.model.name if self.model else self.engine


def run(job: Job, listener: Listener) -> None:
    """Do it. Everything is read and checked before a model is loaded; each query is written when it is done."""
    started = time.monotonic()
    with open_output(job.output, clobber=job.clobber) as output:
        collection = collect(job.inputs, listener)
        format_ = job.output_format or format_of_name(job.output) or collection.format
        style = _style(job, format_)
        _check_ids(collection, format_)
        family_, engine = _load(job, listener)
        scorer = Scorer(family_, engine, listener)
        listener.stage("checking the prompts")
        work = scorer.expect(pairs_to_score(collection, job.cuts))
        listener.begin(len(collection), sum(1 for _ in pairs_to_score(collection, job.cuts)), work)
        for query, rows in rerank(collection, scorer, job.cuts):
            with listener.aside():
                output.write(format_.write(query, rows, style))
                output.flush()
    tally = scorer.tally
    for doubt, count in tally.doubts.items():
        listener.warn(f"{count} of {tally.pairs} pairs: {doubt}")
    queries = "1 query" if len(collection) == 1 else f"{len(collection)} queries"
    pairs = "1 pair" if tally.pairs == 1 else f"{tally.pairs} pairs"
    listener.note(
        f"{queries}, {pairs} ({tally.truncated} truncated) in {time.monotonic() - started:.1f} s "
        f"with {job.model_name} ({engine.setting})"
    )


def _style(job: Job, format_: RunFormat) -> Style:
    """How to write. UsageError for options that this format has no place for."""
    if job.explain and format_.name != "jsonl":
        raise UsageError(f"--explain needs JSONL output, not {format_.name}", hint="add --output-format jsonl")
    if job.tag is not None and format_.name != "trec":
        raise UsageError(f"--tag: {format_.name} output has no run tag")
    if job.tag is not None and len(job.tag.split()) != 1:
        raise UsageError(f"--tag {job.tag!r}: a run tag is one word")
    return Style(job.tag or f"lbr-{job.model_name}", job.explain)


def _check_ids(rankings: Iterable[Ranking], format_: RunFormat) -> None:
    for ranking in rankings:
        query_id = ranking.query.query_id
        objection = format_.objection(query_id)
        if objection:
            raise UsageError(f"query {query_id!r}: {objection} cannot go into {format_.name} output", hint=JSONL)
        for candidate in ranking.candidates:
            objection = format_.objection(candidate.doc_id)
            if objection:
                message = f"query {query_id}, document {candidate.doc_id!r}: {objection} cannot go into"
                raise UsageError(f"{message} {format_.name} output", hint=JSONL)


JSONL = "--output-format jsonl has room for any id"


def _load(job: Job, listener: Listener) -> tuple[Family, Engine]:
    if job.model is None:
        listener.note("--engine overlap counts shared words and uses no model: for trying files, not for ranking")
        pairs = Classifier()
        return pairs, load_engine(job.engine, None, pairs, job.settings)
    model = fetched(job.model, listener)
    listener.stage(f"loading {model.name}")
    chosen = family(model.family)
    return chosen, load_engine(job.engine, model, chosen, job.settings)
