"""`lbr rerank`: its options, what they mean together, and the job that comes of them."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from lbr_cli import preview
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
    IdField,
    Instruction,
    Labels,
    PromptFile,
    QueryColumns,
    QueryPrompt,
    RayAddress,
    Revision,
    TextField,
    TitleField,
    Tokenizer,
    TopicField,
    TrustRemoteCode,
    TsvColumns,
    WorkerCount,
    WorkerCpus,
    WorkerGpus,
    chosen_columns,
    chosen_fields,
    chosen_model,
    chosen_settings,
    on_command_line,
)
from lbr_cli.commands.together import QUERY_OPTIONS, check_together, chosen_method, told_options
from lbr_cli.engines import CONCURRENCY
from lbr_cli.errors import RunError
from lbr_cli.formats import run_format
from lbr_cli.formats.files import STDIN
from lbr_cli.formats.output import STDOUT
from lbr_cli.inputs import Inputs, Policies
from lbr_cli.job import Job, run
from lbr_cli.passages import WORDS
from lbr_cli.progress import Console

FORMATS = Literal["trec", "jsonl", "msmarco"]


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
    passages: Annotated[
        Literal["first", "max", "mean"] | None,
        typer.Option(help="Score a long document by windows of its words: the first, the best, or their mean."),
    ] = None,
    passage_words: Annotated[int, typer.Option(metavar="N", min=1, help="Words of a window.")] = WORDS,
    passage_stride: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Words from window to window, else half a window.")
    ] = None,
    interpolate: Annotated[
        float | None,
        typer.Option(
            metavar="W", min=0, max=1, help="W times the first-stage score, the rest the model's, both from 0 to 1."
        ),
    ] = None,
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
    id_field: IdField = None,
    text_field: TextField = None,
    title_field: TitleField = None,
    tsv_columns: TsvColumns = None,
    topic_field: TopicField = None,
    query_columns: QueryColumns = None,
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
            "--explain", help="Add what the model said to JSONL output: digits, probability, truncated, passage, …"
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and check everything, tell what there is to do, and end.")
    ] = False,
    show_prompt: Annotated[
        bool, typer.Option("--show-prompt", help="Print what the model reads of the first pair, and end.")
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
    check_together(ctx)
    method = chosen_method(ctx.params)
    job = Job(
        inputs=Inputs(
            run=run_,
            corpora=tuple(corpus or ()),
            queries=queries,
            query=query,
            lines=lines,
            format=run_format(input_format) if input_format else None,
            fields=chosen_fields(ctx.params),
            topic_field=topic_field,
            query_columns=chosen_columns(query_columns),
            policies=Policies(missing_docs, missing_queries, duplicates, bad_lines),
            chosen=on_command_line(ctx, QUERY_OPTIONS),
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
        method=method,
        cache=place(cache_dir, cache_size) if engine != "overlap" and cache is not False else None,
        manifest=manifest,
        prompt_file=prompt_file,
        options=told_options(ctx.params, method),
    )
    bar = not quiet and (progress if progress is not None else sys.stderr is not None and sys.stderr.isatty())
    with Console(bar=bar, quiet=quiet, unit="passages" if passages else "pairs") as console:
        if dry_run or show_prompt:
            if sys.stdout is None:
                raise RunError("standard output is closed")
            typer.echo((preview.dry_run if dry_run else preview.show_prompt)(job, console), nl=False)
        else:
            run(job, console)
