"""Run a rerank job: read and check the inputs, score, write the ranking and its manifest."""

from __future__ import annotations

import hashlib
import itertools
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from lbr_cli.cache import Cache
from lbr_cli.cache.place import Place
from lbr_cli.collect import collect
from lbr_cli.core import Progress, Query, RankedCandidate, Ranking
from lbr_cli.engines import Settings
from lbr_cli.errors import InputError, LbrError, RunError, UsageError
from lbr_cli.formats import RunFormat, Style, format_of_name, run_format
from lbr_cli.formats.files import Sums, display_name
from lbr_cli.formats.output import STDOUT, Output, open_output
from lbr_cli.formats.overwrite import MAIN, WrittenFiles
from lbr_cli.identity import Memo
from lbr_cli.inputs import Inputs
from lbr_cli.join import QUERIES
from lbr_cli.manifest import manifest
from lbr_cli.models import LocalModel, Model, ServedModel, fetch
from lbr_cli.models.digests import model_files
from lbr_cli.rerank import Method, check_scores, pairs_to_score, rerank
from lbr_cli.scoring import Scorer
from lbr_cli.setup import Pairs, Setup, set_up
from lbr_cli.stream import stream

OVERLONG = 0.1  # share of truncated passages that is not worth a warning, because passages overlap
OTHER_FORMAT = "--output-format jsonl has room for any id"


@dataclass(frozen=True, slots=True)
class Job:
    """The settings of a rerank job.

    `model` is None for an engine without a model, `tag` None is the default tag, `cache` None turns the cache off;
    `options` are recorded in the manifest. `prompt_file` is the file from which the prompt of `model` was read.
    """

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
    method: Method = Method()
    cache: Place | None = None
    manifest: str | None = None
    prompt_file: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model_name(self) -> str:
        return self.model.name if self.model else self.engine


def run(job: Job, progress: Progress) -> None:
    """Run a job.

    All input (the first query, for a stream) is read and checked before a model is loaded; each query is written as
    soon as it is scored. Ranking and manifest are published when both are complete and the cache is closed. An
    interruption gets a note that says how to continue.
    """
    started = datetime.now(UTC)
    digest = hashlib.sha256() if job.manifest is not None else None
    sums = Sums() if digest else None
    reading = replace(job, inputs=replace(job.inputs, sums=sums, written=check_written(job)))
    warn = progress.warn
    with ExitStack() as record:
        # opened first, so that a file that cannot be written ends the job before anything is computed
        paper = None
        if job.manifest is not None:
            paper = record.enter_context(open_output(job.manifest, warn, clobber=job.clobber))
        # stdout is for results, which have its descriptor by now; what a library prints goes to stderr
        with open_output(job.output, warn, clobber=job.clobber, digest=digest) as output, redirect_stdout(sys.stderr):
            cache = Cache(job.cache, progress)
            try:
                with cache:
                    made = (_run_stream if job.stream else _run_whole)(reading, output, cache, progress)
            except BaseException as stop:
                if job.model and not isinstance(stop, Exception):
                    stop.add_note(_how_to_go_on(cache))
                raise
            if paper and sums and digest:
                output.finish()
                named = ("standard output" if job.output == STDOUT else job.output, digest.hexdigest())
                paper.write(manifest(made, job.options, sums.told(), named, started))
                paper.finish()
    _tell(job, made, started, progress)


def check_written(job: Job) -> WrittenFiles:
    """Return the files that a job writes; UsageError if it also reads one of them, or writes one twice.

    The ranking may replace the run, as `sort -o` does, if the run is read completely before. Files that are known only
    later are checked when they are found: queries beside the run, and a model that is fetched.
    """
    written = WrittenFiles({MAIN: job.output, "--manifest": job.manifest})
    written.check("run", job.inputs.run, replaceable_by=() if job.stream else (MAIN,))
    for role, names in (
        ("corpus", job.inputs.corpora),
        (QUERIES, (job.inputs.queries,)),
        ("prompt file", (job.prompt_file,)),
        ("score cache", map(str, job.cache.files) if job.cache else ()),
    ):
        for name in names:
            if name is not None:
                written.check(role, name)
    _check_model(written, job.model)
    return written


def _check_model(written: WrittenFiles, model: Model | None) -> None:
    place = model.tokenizer if isinstance(model, ServedModel) else model
    for path in model_files(place) if isinstance(place, LocalModel) else ():
        written.check("model file", str(path))


def _how_to_go_on(cache: Cache) -> str:
    if not cache.kept:
        return "the same command begins again" if cache.usable else "nothing is kept without a score cache"
    scores = "1 score of this run is" if cache.kept == 1 else f"{cache.kept} scores of this run are"
    return f"{scores} in the cache, and the same command goes on from there"


def _tell(job: Job, made: Setup, started: datetime, progress: Progress) -> None:
    """Print the warnings about scores and the summary."""
    counts = made.scorer.counts
    read = "passages" if job.method.passages else "pairs"
    for warning, count in counts.warnings.items():
        progress.warn(f"{count} of {counts.pairs} {read}: {warning}")
    if job.method.passages and counts.truncated > counts.pairs * OVERLONG:
        what = f"{counts.truncated} of {counts.pairs} passages are longer than the model reads"
        progress.warn(f"{what}; fewer --passage-words make them shorter")
    queries = _counted(counts.queries, "query", "queries")
    pairs = _counted(counts.candidates, "pair")
    passages = f" as {_counted(counts.pairs, 'passage')}" if job.method.passages else ""
    cached = f"{counts.cached} cached, " if job.cache and job.model else ""
    seconds = (datetime.now(UTC) - started).total_seconds()
    progress.note(
        f"{queries}, {pairs}{passages} ({cached}{counts.truncated} truncated) in {seconds:.1f} s "
        f"with {job.model_name} ({made.scorer.description})"
    )


def _counted(count: int, one: str, more: str = "") -> str:
    return f"1 {one}" if count == 1 else f"{count} {more or one + 's'}"


def _run_whole(job: Job, output: Output, cache: Cache, progress: Progress) -> Setup:
    collection = collect(job.inputs, progress)
    format_ = output_format(job, collection.format)
    style = style_of(job, format_)
    for ranking in collection:
        check_scores(ranking, job.method, display_name(job.inputs.run))
        if format_ is not collection.format:  # what came in this way can go out this way
            check_ids(ranking, format_)
    made = _set_up(job, cache, progress, lambda: pairs_to_score(collection, job.method))
    if made.plan:
        progress.start(len(collection), made.plan.pairs, made.plan.hits)
    _write(rerank(collection, made.scorer, job.method, made.plan), made.scorer, format_, style, output)
    return made


def _run_stream(job: Job, output: Output, cache: Cache, progress: Progress) -> Setup:
    format_ = output_format(job, run_format("jsonl"))
    style = style_of(job, format_)
    rankings = _checked(stream(job.inputs, progress), job, format_)
    progress.status("waiting for the first query")
    first = next(rankings, None)
    if first is None:
        raise InputError("holds no candidates", display_name(job.inputs.run))
    made = _set_up(job, cache, progress)
    progress.start(0, 0, 0)
    try:
        reranked = rerank(itertools.chain([first], rankings), made.scorer, job.method)
        _write(reranked, made.scorer, format_, style, output)
    except LbrError as error:
        if made.scorer.counts.queries:  # some answers are out: the job as a whole has failed while running
            raise RunError(str(error), hint=error.hint) from error
        raise
    return made


def _write(
    reranked: Iterable[tuple[Query, list[RankedCandidate]]],
    scorer: Scorer,
    format_: RunFormat,
    style: Style,
    output: Output,
) -> None:
    """Write each query as soon as it is scored."""
    for query, rows in reranked:
        with scorer.progress.paused():
            output.write(format_.write(query, rows, style))


def output_format(job: Job, input_format: RunFormat) -> RunFormat:
    """Return the format of the results: of `--output-format`, else of the file's ending, else of the input."""
    if job.inputs.lines:
        return input_format
    return job.output_format or format_of_name(job.output) or input_format


def check_ids(ranking: Ranking, format_: RunFormat) -> None:
    """Raise UsageError for an id that cannot be written in the output format."""
    query_id = ranking.query.query_id
    for candidate in ranking.candidates:
        objection = format_.objection(query_id, candidate.doc_id)
        if objection:
            pair = f"query {query_id!r}, document {candidate.doc_id!r}"
            raise UsageError(f"{pair}: {objection} cannot go into {format_.name} output", hint=OTHER_FORMAT)


def _checked(rankings: Iterable[Ranking], job: Job, format_: RunFormat) -> Iterator[Ranking]:
    for ranking in rankings:
        check_scores(ranking, job.method, display_name(job.inputs.run))
        check_ids(ranking, format_)
        yield ranking


def style_of(job: Job, format_: RunFormat) -> Style:
    """Return how to write. Raise UsageError for options without effect in this format."""
    if job.explain and format_.name != "jsonl":
        raise UsageError(f"--explain needs JSONL output, not {format_.name}", hint="add --output-format jsonl")
    if job.tag is not None and format_.name != "trec":
        raise UsageError(f"--tag: {format_.name} output has no run tag")
    if job.tag is not None and not re.fullmatch(r"[^\s\ud800-\udfff]+", job.tag):
        raise UsageError(f"--tag {job.tag!r}: a run tag is one word in UTF-8")
    return Style(job.tag or f"lbr-{job.model_name}", job.explain)


def _set_up(job: Job, cache: Cache, progress: Progress, pairs: Pairs | None = None) -> Setup:
    if job.model is None:
        progress.note("--engine overlap counts shared words and uses no model: for trying files, not for ranking")
    model = fetch(job.model, progress, Memo(cache).sha256) if job.model else None
    _check_model(job.inputs.written, model)
    identify = job.manifest is not None
    return set_up(model, job.engine, job.settings, cache, progress, pairs=pairs, identify=identify)
