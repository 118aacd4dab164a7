"""Run a rerank job: read and check the inputs, score, write the ranking and its manifest."""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lbr_cli.cache import Cache
from lbr_cli.cache.location import CacheLocation
from lbr_cli.core import Family, Progress, Query, RankedCandidate, Ranking
from lbr_cli.engines import Settings
from lbr_cli.errors import InputError, LbrError, RunError, UsageError
from lbr_cli.families.shared_words import SharedWords
from lbr_cli.formats import OutputOptions, RunFormat
from lbr_cli.formats.choice import check_ids, check_tag, output_format
from lbr_cli.formats.input_files import InputFiles
from lbr_cli.formats.jsonl import Jsonl
from lbr_cli.formats.output import STDOUT, Output, open_output
from lbr_cli.formats.overwrite import MAIN, WrittenFiles
from lbr_cli.formats.training import Training
from lbr_cli.identity import Memo
from lbr_cli.inputs import Inputs
from lbr_cli.inputs.load import LoadedRun, load_run
from lbr_cli.inputs.stream import stream
from lbr_cli.inputs.texts import QUERIES
from lbr_cli.manifest import manifest, manifest_inputs
from lbr_cli.models import LocalModel, Model, ServedModel, fetch
from lbr_cli.models.digests import model_files
from lbr_cli.models.model import explained
from lbr_cli.rerank import Method, check_first_stage_scores, pairs_to_score, rerank
from lbr_cli.scoring import Counts, Pairs, Scorer, instructed
from lbr_cli.setup import Preparation, Setup, set_up_without_model
from lbr_cli.wording import counted

TRUNCATED_WARNING_SHARE = 0.1  # of passages: fewer truncated ones are harmless, because passages overlap

Reranked = Iterable[tuple[Query, list[RankedCandidate]]]


@dataclass(frozen=True, slots=True)
class Job:
    """The settings of a rerank job.

    `model` is None for an engine without a model, `tag` for the default tag, `cache` to cache no scores. `options` are
    those of the manifest. `prompt_file` is the file of the prompt of `model`.
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
    cache: CacheLocation | None = None
    manifest: str | None = None
    prompt_file: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise UsageError for a threshold that the family of the model does not have."""
        if self.family:
            self.method.check(self.family)

    @property
    def family(self) -> Family | None:
        """The family of the scores; None for a model whose files, which determine it, are not known yet."""
        return self.model.family if self.model else SharedWords()

    @property
    def model_name(self) -> str:
        return self.model.name if self.model else self.engine


def run(job: Job, progress: Progress) -> None:
    """Run a job.

    All input (the first query, for a stream) is read and checked before a model is loaded; each query is written as
    soon as it is scored. Ranking and manifest are renamed into place when both are complete and the cache is closed.
    An interruption gets a note about how to continue.
    """
    started = datetime.now(UTC)
    digest = hashlib.sha256() if job.manifest is not None else None
    files = input_files(job)
    warn = progress.warn
    with ExitStack() as stack:
        # opened first, so that a file that cannot be written ends the job before anything is computed
        manifest_file = None
        if job.manifest is not None:
            manifest_file = stack.enter_context(open_output(job.manifest, warn, clobber=job.clobber))
        # the output has its own descriptor of stdout; prints of libraries are redirected to stderr
        with open_output(job.output, warn, clobber=job.clobber, digest=digest) as output, redirect_stdout(sys.stderr):
            cache = Cache(job.cache, progress)
            try:
                with cache:
                    setup = (_run_stream if job.stream else _run_whole)(job, files, output, cache, progress)
                    _check_written(job, setup.scorer)
            except BaseException as stop:
                if job.model and not isinstance(stop, Exception):
                    stop.add_note(_how_to_continue(cache))
                raise
            if manifest_file and digest:
                output.finish()
                inputs = manifest_inputs(files.digests(), job.inputs.dataset)
                written = ("standard output" if job.output == STDOUT else job.output, digest.hexdigest())
                manifest_file.write(manifest(setup, job.options, inputs, written, started))
                manifest_file.finish()
    _log_summary(job, setup, started, progress)


def input_files(job: Job) -> InputFiles:
    """Return the opener of a job's input. UsageError if an output is an input, too, or if two outputs are one file.

    The ranking may replace the run, as in `sort -o`, unless the run is a stream. Queries beside the run and a model
    that is not downloaded yet are checked later.
    """
    written = WrittenFiles({MAIN: job.output, "--manifest": job.manifest})
    files = InputFiles(written, hashed=job.manifest is not None)
    for run in job.inputs.runs:
        files.check("run", run, replaceable_by=() if job.stream else (MAIN,))
    for role, names in (
        ("corpus", job.inputs.corpora),
        (QUERIES, (job.inputs.queries,)),
        ("prompt file", (job.prompt_file,)),
        ("score cache", map(str, job.cache.files) if job.cache else ()),
    ):
        for name in names:
            if name is not None:
                files.check(role, name)
    _check_model(files, job.model)
    return files


def _check_model(files: InputFiles, model: Model | None) -> None:
    local = model.tokenizer if isinstance(model, ServedModel) else model
    for path in model_files(local) if isinstance(local, LocalModel) else ():
        files.check("model file", str(path))


def _how_to_continue(cache: Cache) -> str:
    if not cache.kept:
        return "no scores of this run are cached yet" if cache.usable else "no scores are cached"
    scores = "1 score of this run is" if cache.kept == 1 else f"{cache.kept} scores of this run are"
    return f"{scores} cached; the same command continues from there"


def _log_summary(job: Job, setup: Setup, started: datetime, progress: Progress) -> None:
    """Log the warnings about scores and the summary."""
    counts = setup.scorer.counts
    warn_about_scores(counts, job.method, progress)
    queries = counted(counts.queries, "query", "queries")
    pairs = counted(counts.candidates, "pair")
    passages = f" as {counted(counts.pairs, 'passage')}" if job.method.passages else ""
    cached = f"{counts.cached} cached, " if job.cache and job.model else ""
    seconds = (datetime.now(UTC) - started).total_seconds()
    if job.method.threshold:
        written = f"{counts.written} of {counts.candidates} scored candidates written"
        progress.note(f"{job.method.threshold}: {written}; queries without one: {counts.empty}")
    progress.note(
        f"{queries}, {pairs}{passages} ({cached}{counts.truncated} truncated) in {seconds:.1f} s "
        f"with {job.model_name} ({setup.scorer.description})"
    )


def _check_written(job: Job, scorer: Scorer) -> None:
    """Raise UsageError if no candidate reaches the threshold, so that an empty ranking is never published."""
    if job.method.threshold and not scorer.counts.written:
        message = f"{job.method.threshold}: none of {counted(scorer.counts.candidates, 'scored candidate')} reaches it"
        raise UsageError(message, hint=f"the scale of {job.model_name}: {scorer.family.scale}")


def warn_about_scores(counts: Counts, method: Method, progress: Progress) -> None:
    """Warn about scores that may be meaningless, and about many truncated passages."""
    noun = "passages" if method.passages else "pairs"
    for warning, count in counts.warnings.items():
        progress.warn(f"{count} of {counts.pairs} {noun}: {warning}")
    if method.passages and counts.truncated > counts.pairs * TRUNCATED_WARNING_SHARE:
        message = f"{counts.truncated} of {counts.pairs} passages are longer than the model reads"
        progress.warn(f"{message}; fewer --passage-words make them shorter")


def load_checked(job: Job, files: InputFiles, progress: Progress) -> tuple[LoadedRun, RunFormat, OutputOptions]:
    """Load the run of a job; return it with the format and the options of its output, all checked."""
    run = load_run(job.inputs, files, progress)
    format_, options = _output(job, run.format)
    for ranking in run.rankings:
        _checked(ranking, job, run.format, format_)
    return run, format_, options


def _run_whole(job: Job, files: InputFiles, output: Output, cache: Cache, progress: Progress) -> Setup:
    run, format_, options = load_checked(job, files, progress)
    setup = _set_up(job, files, cache, progress, lambda: pairs_to_score(run.rankings, job.method))
    if setup.plan:
        progress.start(len(run.rankings), setup.plan.pairs, setup.plan.hits)
    _write(rerank(run.rankings, setup.scorer, job.method, setup.plan), progress, format_, options, output)
    return setup


def _run_stream(job: Job, files: InputFiles, output: Output, cache: Cache, progress: Progress) -> Setup:
    format_, options = _output(job, Jsonl())
    rankings = (_checked(ranking, job, Jsonl(), format_) for ranking in stream(job.inputs, files, progress))
    progress.status("waiting for the first query")
    first = next(rankings, None)
    if first is None:
        raise InputError("holds no candidates", job.inputs.run_name)
    setup = _set_up(job, files, cache, progress)
    progress.start(0, 0, 0)
    try:
        reranked = rerank(itertools.chain([first], rankings), setup.scorer, job.method)
        _write(reranked, progress, format_, options, output)
    except LbrError as error:
        if setup.scorer.counts.queries:  # some results are written
            raise RunError(str(error), hint=error.hint) from error
        raise
    return setup


def _write(rows: Reranked, progress: Progress, format_: RunFormat, options: OutputOptions, output: Output) -> None:
    """Write each query as soon as it is scored."""
    for query, candidates in rows:
        if lines := format_.write(query, candidates, options):
            with progress.paused():
                output.write(lines)


def _output(job: Job, input_format: RunFormat) -> tuple[RunFormat, OutputOptions]:
    """Return the format of the output and its options. UsageError for options that the format does not support."""
    format_ = output_format(job.output_format, job.output, input_format)
    if job.inputs.lines:
        format_ = input_format
    if format_.name == Training.name:
        _check_training(job)
    if job.explain and not format_.has_details:
        raise UsageError(f"--explain needs JSONL output, not {format_.name}", hint="add --output-format jsonl")
    check_tag(job.tag, format_)
    return format_, OutputOptions(job.tag or f"lbr-{job.model_name}", job.explain)


def _check_training(job: Job) -> None:
    """Raise UsageError for options that leave a text without a score of the model."""
    for name in ("depth", "top_k", "interpolate", "min_score", "min_probability"):
        if getattr(job.method, name) is not None:
            message = f"--{name.replace('_', '-')}: training output has the model's score of every text"
            raise UsageError(message, hint="--output-format jsonl has a line for each text")


def _checked(ranking: Ranking, job: Job, input_format: RunFormat, format_: RunFormat) -> Ranking:
    """Check a ranking and return it.

    Raises InputError for a missing first-stage score and for an instruction that the model does not take, UsageError
    for an id that cannot be written.
    """
    if job.family:
        instructed(job.family, ranking.query)
    check_first_stage_scores(ranking, job.method, job.inputs.run_name)
    check_ids(ranking, input_format, format_)
    return ranking


def _set_up(job: Job, files: InputFiles, cache: Cache, progress: Progress, pairs: Pairs | None = None) -> Setup:
    if job.model is None:
        progress.note("--engine overlap counts shared words and uses no model: for trying files, not for ranking")
        return set_up_without_model(job.engine, job.settings, progress, pairs)
    memo = Memo(cache)
    model = fetch(job.model, progress, memo.sha256)
    if job.explain:
        model = explained(model)
    _check_model(files, model)
    job.method.check(model.family)
    identify = job.manifest is not None
    return Preparation(model, job.engine, job.settings, memo, progress, identify=identify).set_up(pairs)
