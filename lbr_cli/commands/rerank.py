"""`lbr rerank`: build a job from its options, and check the options of different groups together."""

from __future__ import annotations

import typer

from lbr_cli.commands.command import command, refuse
from lbr_cli.commands.options.cache import CacheOptions
from lbr_cli.commands.options.diagnostics import DiagnosticsOptions
from lbr_cli.commands.options.engine import COMPUTING, EngineOptions
from lbr_cli.commands.options.inputs import InputOptions
from lbr_cli.commands.options.model import RerankerOptions
from lbr_cli.commands.options.output import OutputOptions
from lbr_cli.commands.options.scoring import DocumentOptions, ScoringOptions
from lbr_cli.engines import Server
from lbr_cli.formats.output import check_stdout
from lbr_cli.models import Model


@command
def rerank(
    inputs: InputOptions,
    output: OutputOptions,
    model: RerankerOptions,
    scoring: ScoringOptions,
    documents: DocumentOptions,
    engine: EngineOptions,
    cache: CacheOptions,
    diagnostics: DiagnosticsOptions,
) -> None:
    """Rerank the candidates of RUN by the scores of a model.

    Examples:
        lbr rerank run.trec --corpus docs.jsonl > reranked.trec
        lbr rerank run.trec -c docs.jsonl -m minilm --depth 50 -o reranked.jsonl
        lbr rerank run.trec -c docs.jsonl --dry-run
        grep -rh timeout docs/ | lbr rerank --query "request timeout" --lines
    """
    from lbr_cli.job import Job, run  # not needed for --help
    from lbr_cli.preview import dry_run, show_prompt

    groups = (inputs, output, model, scoring, documents, engine, cache, diagnostics)
    given = frozenset().union(*(group.given for group in groups))
    check_engine_options(given, engine, cache)
    preview = "--dry-run" if diagnostics.dry_run else "--show-prompt" if diagnostics.show_prompt else None
    if inputs.lines:
        refuse(given, ("output_format", "tag", "explain", "interpolate"), "--lines ranks plain text")
    if inputs.stream:
        refuse(given, ("dry_run", "show_prompt"), "--stream reads JSONL with all texts")
    if preview:
        refuse(given, ("manifest",), f"{preview} makes no ranking")
    values = {name: value for group in groups for name, value in group.values().items()}
    settings = engine.settings(documents.max_length)
    job = Job(
        inputs=inputs.inputs(),
        model=chosen_model(model, engine, settings.server),
        engine=engine.engine,
        settings=settings,
        output=output.output,
        output_format=output.format(),
        clobber=not output.no_clobber,
        tag=output.tag,
        explain=output.explain,
        stream=inputs.stream,
        method=scoring.method(documents),
        cache=cache.location() if engine.has_model else None,
        manifest=output.manifest,
        prompt_file=model.prompt_file,
        options={name: value for name, value in values.items() if value is not None and engine.reads(name)},
    )
    with diagnostics.console("passages" if documents.passages else "pairs") as console:
        if preview:
            check_stdout()
            typer.echo((dry_run if diagnostics.dry_run else show_prompt)(job, console), nl=False)
        else:
            run(job, console)


def check_engine_options(given: frozenset[str], engine: EngineOptions, cache: CacheOptions) -> None:
    """Raise UsageError for an option that has no effect on the engine."""
    if engine.has_model:
        engine.refuse_unread(given)
        if engine.is_rerank_server:
            of_prompts = (*sorted({*RerankerOptions.names()} - {"model"}), "show_prompt")
            refuse(given, of_prompts, "a rerank server makes the prompts and the scores")
        return
    without_model = (*RerankerOptions.names(), *sorted(COMPUTING), "show_prompt", "min_probability")
    refuse(given, without_model, f"--engine {engine.engine} uses no model")
    no_cache = {"cache"} if cache.cache is False else set()
    refuse(given - no_cache, cache.names(), f"--engine {engine.engine} caches no scores")


def chosen_model(model: RerankerOptions, engine: EngineOptions, server: Server | None) -> Model | None:
    """Return the model, None for an engine without one. `server` is the server of the settings. Downloads nothing."""
    if not engine.has_model:
        return None
    if server is None:
        return model.local()
    return model.on_rerank_server(server.dialect) if server.dialect else model.served(engine.tokenizer)
