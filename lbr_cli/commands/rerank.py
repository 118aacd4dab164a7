"""`lbr rerank`: its options, what they mean together, and the job that comes of them."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Literal

import typer

from lbr_cli.cache.place import DEFAULT_SIZE, place
from lbr_cli.commands.options import (
    BaseUrl,
    CacheDir,
    CacheSize,
    Concurrency,
    Device,
    DocumentPrompt,
    Dtype,
    EngineName,
    FamilyName,
    Instruction,
    Labels,
    PromptFile,
    QueryPrompt,
    RayAddress,
    Revision,
    Tokenizer,
    TrustRemoteCode,
    WorkerCount,
    WorkerCpus,
    WorkerGpus,
    check_engine_options,
    chosen_model,
    chosen_settings,
    concerns,
    refuse,
)
from lbr_cli.core import Listener
from lbr_cli.engines import CONCURRENCY
from lbr_cli.errors import RunError, UsageError
from lbr_cli.formats import run_format
from lbr_cli.formats.corpus import Fields
from lbr_cli.formats.files import STDIN
from lbr_cli.formats.output import STDOUT
from lbr_cli.inputs import Inputs, Policies
from lbr_cli.job import Job, run
from lbr_cli.progress import Console
from lbr_cli.rerank import Cuts
from lbr_cli.survey import survey

FORMATS = Literal["trec", "jsonl", "msmarco"]
# options that have no effect without a corpus, and where the texts are in the lines
STDOUTS = {STDOUT, "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"}
CACHE_OPTIONS = ("cache_dir", "cache_size")
CORPUS_OPTIONS = ("missing_docs", "bad_lines", "id_field", "text_field", "title_field", "tsv_columns")
JOIN_OPTIONS = ("corpus", "queries", "input_format", "missing_queries", "topic_field", *CORPUS_OPTIONS)


def rerank(
    ctx: typer.Context,
    run_: Annotated[
        str, typer.Argument(metavar="RUN", help="Candidates: a TREC or MS MARCO run or JSONL; - is stdin.")
    ] = STDIN,
    corpus: Annotated[
        list[str] | None,
        typer.Option("--corpus", "-c", metavar="FILE", help="Documents, JSONL or TSV. Repeat it for shards."),
    ] = None,
    queries: Annotated[
        str | None,
        typer.Option(
            "--queries",
            "-q",
            metavar="FILE",
            help="Query texts: JSONL, TSV, TREC topics; else the one queries.* or topics.* beside the run or corpus.",
        ),
    ] = None,
    query: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The one query, for JSONL or --lines input that has none.")
    ] = None,
    lines: Annotated[
        bool, typer.Option("--lines", help="RUN is plain text: rank its lines for --query and write them as they are.")
    ] = False,
    stream: Annotated[
        bool, typer.Option("--stream", help="Answer each query of JSONL that carries its texts as soon as it is in.")
    ] = False,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where the ranking goes; - is stdout. A file appears when it is whole; .gz and .zst compress.",
        ),
    ] = STDOUT,
    input_format: Annotated[FORMATS | None, typer.Option(help="Format of RUN, else told by its first line.")] = None,
    output_format: Annotated[
        FORMATS | None, typer.Option(help="Format of the ranking, else by the ending of -o, else that of RUN.")
    ] = None,
    tag: Annotated[str | None, typer.Option(metavar="TAG", help="Run tag in TREC output, else lbr-MODEL.")] = None,
    model: Annotated[
        str,
        typer.Option("--model", "-m", envvar="LBR_MODEL", help="Alias (see lbr models), hub id, folder or GGUF file."),
    ] = "lb",
    revision: Revision = None,
    family: FamilyName = None,
    instruction: Instruction = None,
    prompt_file: PromptFile = None,
    labels: Labels = None,
    query_prompt: QueryPrompt = None,
    document_prompt: DocumentPrompt = None,
    trust_remote_code: TrustRemoteCode = False,
    engine: EngineName = "local",
    base_url: BaseUrl = None,
    concurrency: Concurrency = CONCURRENCY,
    tokenizer: Tokenizer = None,
    workers: WorkerCount = 1,
    worker_cpus: WorkerCpus = 1,
    worker_gpus: WorkerGpus = 0.0,
    ray_address: RayAddress = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    max_length: Annotated[
        int | None,
        typer.Option(metavar="TOKENS", min=1, help="Limit of a whole prompt, else the model's own."),
    ] = None,
    batch_tokens: Annotated[
        int | None,
        typer.Option(metavar="TOKENS", min=1, envvar="LBR_BATCH_TOKENS", help="Computed at once, padding included."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=1024, envvar="LBR_THREADS", help="CPU threads, else torch's choice."),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(metavar="K", min=1, help="Score the first K of a query, the rest stays below."),
    ] = None,
    top_k: Annotated[int | None, typer.Option(metavar="K", min=1, help="Write the first K of a query.")] = None,
    missing_docs: Annotated[
        Literal["error", "skip", "last"], typer.Option(help="What a candidate that is not in the corpus gets.")
    ] = "error",
    missing_queries: Annotated[
        Literal["error", "skip", "keep"], typer.Option(help="What a query without a text gets.")
    ] = "error",
    duplicates: Annotated[
        Literal["warn", "error"], typer.Option(help="What a pair that stands twice in RUN gets.")
    ] = "warn",
    bad_lines: Annotated[
        Literal["error", "skip"], typer.Option(help="What a line of the corpus that cannot be read gets.")
    ] = "error",
    id_field: Annotated[str | None, typer.Option(metavar="KEY", help="Key of the ids in a JSONL corpus.")] = None,
    text_field: Annotated[str | None, typer.Option(metavar="KEY", help="Key of the texts.")] = None,
    title_field: Annotated[str | None, typer.Option(metavar="KEY", help="Key of the titles.")] = None,
    tsv_columns: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Columns of a TSV corpus, else id,text; id, text and title are read."),
    ] = None,
    topic_field: Annotated[
        str, typer.Option(metavar="NAME", help="Part of a TREC topic that is the query: title, description, …")
    ] = "title",
    cache: Annotated[
        bool | None,
        typer.Option(
            "--cache/--no-cache",
            envvar="LBR_CACHE",
            help="Keep scores and use known ones, as it does unless told otherwise.",
        ),
    ] = None,
    cache_dir: CacheDir = None,
    cache_size: CacheSize = DEFAULT_SIZE,
    manifest: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write there as JSON what made the ranking: versions, sums, counts."),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Add what the model said to JSONL output: digits, probability, mass, truncated."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and check everything, tell what there is to do, and end.")
    ] = False,
    no_clobber: Annotated[bool, typer.Option("--no-clobber", help="Leave an output file that is there alone.")] = False,
    progress: Annotated[
        bool | None, typer.Option("--progress/--no-progress", help="A bar; off where stderr is no terminal.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Nothing on stderr but warnings and errors.")] = False,
) -> None:
    """Score each candidate of RUN with a model and write the better ranking.

    lbr rerank run.trec --corpus docs.jsonl > reranked.trec
    """
    corpora = tuple(corpus or ())
    check_engine_options(ctx, engine)
    for there, options, reason in (
        (engine == "overlap", (*CACHE_OPTIONS, *(["cache"] if cache else [])), "--engine overlap keeps no scores"),
        (cache is False, CACHE_OPTIONS, "no scores are kept"),
        (not corpora and not lines and not stream, CORPUS_OPTIONS, "there is no --corpus"),
        (lines, (*JOIN_OPTIONS, "stream", "output_format", "tag", "explain", "duplicates"), "--lines ranks plain text"),
        (stream, (*JOIN_OPTIONS, "dry_run"), "--stream reads JSONL that carries its texts"),
        (tsv_columns is not None, ("id_field", "text_field", "title_field"), "--tsv-columns says where all is"),
        (query is not None, ("queries", "missing_queries", "topic_field"), "--query is the one query"),
        (dry_run, ("manifest",), "--dry-run makes no ranking"),
    ):
        refuse(ctx, options if there else (), reason)
    for name in ("query", "instruction", "query_prompt", "document_prompt", "labels"):
        _check_utf8(name, ctx.params[name])
    if lines and query is None:
        raise UsageError("--lines needs --query", hint='lbr rerank --query "…" --lines notes.txt')
    if [run_, *corpora, queries].count(STDIN) > 1:
        raise UsageError("only one of RUN, --corpus and --queries can be standard input")
    if manifest is not None:
        _check_manifest(manifest, output, [run_, *([prompt_file] if prompt_file else [])])
    if run_ == STDIN and sys.stdin is not None and sys.stdin.isatty():
        raise UsageError("no RUN, and standard input is a terminal", hint="lbr rerank run.trec --corpus docs.jsonl")
    job = Job(
        inputs=Inputs(
            run=run_,
            corpora=corpora,
            queries=queries,
            query=query,
            lines=lines,
            format=run_format(input_format) if input_format else None,
            fields=_fields(id_field, text_field, title_field, tsv_columns),
            topic_field=topic_field,
            policies=Policies(missing_docs, missing_queries, duplicates, bad_lines),
        ),
        model=chosen_model(ctx.params) if engine != "overlap" else None,
        engine=engine,
        settings=chosen_settings(ctx.params),
        output=output,
        output_format=run_format(output_format) if output_format else None,
        clobber=not no_clobber,
        tag=tag,
        explain=explain,
        stream=stream,
        cuts=Cuts(depth, top_k),
        cache=place(cache_dir, cache_size) if engine != "overlap" and cache is not False else None,
        manifest=manifest,
        options={
            name.rstrip("_"): value
            for name, value in ctx.params.items()
            if value is not None and concerns(name, engine)
        },
    )
    bar = not quiet and (progress if progress is not None else sys.stderr is not None and sys.stderr.isatty())
    with Console(bar=bar, quiet=quiet) as console:
        listener: Listener = console
        if dry_run:
            if sys.stdout is None:
                raise RunError("standard output is closed")
            typer.echo(survey(job, listener), nl=False)
        else:
            run(job, listener)


def _check_utf8(name: str, text: str | None) -> None:
    """UsageError for bytes on the command line that are no text."""
    if any("\ud800" <= letter <= "\udfff" for letter in text or ""):
        raise UsageError(f"--{name.replace('_', '-')}: not UTF-8")


def _check_manifest(manifest: str, output: str, inputs: list[str]) -> None:
    """UsageError for a place that is needed for something else."""
    if not manifest:
        raise UsageError("--manifest: an empty name")
    place = os.path.realpath(manifest)
    if os.path.realpath(output) == place or {output, manifest} <= STDOUTS:
        raise UsageError(f"--manifest {manifest}: the ranking goes there")
    if place in map(os.path.realpath, inputs):
        raise UsageError(f"--manifest {manifest}: this file is read")


def _fields(id_field: str | None, text_field: str | None, title_field: str | None, tsv_columns: str | None) -> Fields:
    columns = tuple(tsv_columns.split(",")) if tsv_columns is not None else None
    if columns and (columns.count("id") != 1 or columns.count("text") != 1 or columns.count("title") > 1):
        raise UsageError(f"--tsv-columns {tsv_columns}: needs id and text once, and may name title once")
    default = Fields()
    return Fields(
        (id_field,) if id_field is not None else default.ids,
        (text_field,) if text_field is not None else default.texts,
        title_field if title_field is not None else default.title,
        columns,
    )
