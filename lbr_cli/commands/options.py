"""Options that several commands have: which model, how it is asked, where it computes, how a corpus is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from lbr_cli.engines import Server, Settings, Workers
from lbr_cli.errors import InputError, UsageError
from lbr_cli.families import FAMILIES, Template
from lbr_cli.formats.corpus import Fields
from lbr_cli.models import Model, resolve, served

Revision = Annotated[str | None, typer.Option(metavar="REV", help="Branch, tag or commit on the hub.")]
FAMILY_NAMES = tuple(known.name for known in FAMILIES)
FamilyName = Annotated[
    Literal["lb", "lb-rev", "qwen3", "mxbai-v2", "bge-gemma", "next-token", "classifier", "monot5", "bi-encoder"]
    | None,
    typer.Option(metavar="NAME", help=f"How to ask a model that does not say so itself: {', '.join(FAMILY_NAMES)}."),
]
Instruction = Annotated[
    str | None, typer.Option(metavar="TEXT", help="What relevant means, in words (qwen3, mxbai-v2).")
]
PromptFile = Annotated[
    str | None, typer.Option(metavar="FILE", help="The prompt of --family next-token, in TOML; the README shows one.")
]
Labels = Annotated[
    str | None,
    typer.Option(metavar="A,B", help='Tokens for relevant and not: "yes,no" (next-token, monot5).'),
]
QueryPrompt = Annotated[
    str | None, typer.Option(metavar="TEXT", help="What goes before each query, else what the model's folder says.")
]
DocumentPrompt = Annotated[str | None, typer.Option(metavar="TEXT", help="The same for documents (bi-encoder).")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run the code that comes with a model. Read it first.")
]
Device = Annotated[str, typer.Option(envvar="LBR_DEVICE", help="cpu, cuda, cuda:1, mps; auto is the best there is.")]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    typer.Option(envvar="LBR_DTYPE", help="Precision; auto is bfloat16 where the device computes in it."),
]
CacheDir = Annotated[
    str | None,
    typer.Option(metavar="DIR", envvar="LBR_CACHE_DIR", help="Where known scores are, else the user's cache folder."),
]
CacheSize = Annotated[
    str,
    typer.Option(metavar="SIZE", envvar="LBR_CACHE_SIZE", help="What it may take; what was not used longest goes."),
]
EngineName = Annotated[
    Literal["local", "vllm", "openai", "ray", "overlap"],
    typer.Option(
        envvar="LBR_ENGINE",
        help="What computes: local, on this machine; vllm, in this process; openai, a server; ray, several local ones; "
        "overlap, shared words and no model, for trying files.",
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="LBR_BASE_URL",
        help="OpenAI-compatible server (openai), http://127.0.0.1:8000/v1; its key is read from LBR_API_KEY.",
    ),
]
Concurrency = Annotated[
    int, typer.Option(metavar="N", min=1, max=1000, envvar="LBR_CONCURRENCY", help="Requests at a time (openai).")
]
Tokenizer = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        envvar="LBR_TOKENIZER",
        help="Where the tokenizer of the server's model is (openai).",
    ),
]
WorkerCount = Annotated[
    int, typer.Option(metavar="N", min=1, envvar="LBR_WORKERS", help="Processes that each hold the model (ray).")
]
WorkerCpus = Annotated[
    int, typer.Option(metavar="N", min=1, envvar="LBR_WORKER_CPUS", help="CPUs, and threads, of each worker (ray).")
]
WorkerGpus = Annotated[
    float,
    typer.Option(metavar="N", min=0, envvar="LBR_WORKER_GPUS", help="GPUs of each worker, 0.5 for half a one (ray)."),
]
RayAddress = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", envvar="LBR_RAY_ADDRESS", help="Cluster to join (ray), else one of this machine."),
]
IdField = Annotated[str | None, typer.Option(metavar="KEY", help="Key of the ids in a JSONL corpus.")]
TextField = Annotated[str | None, typer.Option(metavar="KEY", help="Key of the texts.")]
TitleField = Annotated[str | None, typer.Option(metavar="KEY", help="Key of the titles.")]
TsvColumns = Annotated[
    str | None,
    typer.Option(metavar="NAMES", help="Columns of a TSV corpus, else id,text; id, text and title are read."),
]
TopicField = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Field of topics, key of JSONL or column of TSV that is the query, else title."),
]
QueryColumns = Annotated[
    str | None,
    typer.Option(metavar="NAMES", help="Columns of TSV queries, else id,title,description,narrative if more than two."),
]
# those that say which model and how it is asked, by the names of their parameters
MODEL_OPTIONS = (
    *("model", "revision", "family", "instruction", "prompt_file", "labels", "query_prompt", "document_prompt"),
    "trust_remote_code",
)
FETCHING = ("revision", "trust_remote_code")
WORKER_OPTIONS = ("workers", "worker_cpus", "worker_gpus", "ray_address")


def chosen_model(options: Mapping[str, Any]) -> Model:
    """The model that a command's options name, without a look at any network. `options` holds `MODEL_OPTIONS`."""
    prompt_file, labels = options["prompt_file"], options["labels"]
    chosen = {
        "instruction": options["instruction"],
        "prompt": None if prompt_file is None else _template(prompt_file),
        "labels": None if labels is None else _labels(labels),
        "query_prompt": options["query_prompt"],
        "document_prompt": options["document_prompt"],
    }
    named = {field: value for field, value in chosen.items() if value is not None}
    if options.get("engine") == "openai":
        return served(options["model"], options["family"], options["tokenizer"], chosen=named)
    return resolve(
        options["model"], options["family"], options["revision"], chosen=named, trusted=options["trust_remote_code"]
    )


# of these, what each engine listens to
ENGINE_OPTIONS = {
    "local": ("device", "dtype", "max_length", "batch_tokens", "threads", *FETCHING),
    "vllm": ("dtype", "max_length", "batch_tokens", *FETCHING),
    "openai": ("max_length", "base_url", "concurrency", "tokenizer"),
    "ray": ("device", "dtype", "max_length", "batch_tokens", *WORKER_OPTIONS, *FETCHING),
}
ABOUT_COMPUTING = {option for options in ENGINE_OPTIONS.values() for option in options}


def concerns(option: str, engine: str) -> bool:
    """Whether an engine listens to an option, if it is about computing at all."""
    return option not in ABOUT_COMPUTING or option in ENGINE_OPTIONS.get(engine, ())


def check_engine_options(ctx: typer.Context, engine: str) -> None:
    """UsageError for an option given on the command line that is for other engines."""
    if engine == "overlap":
        refuse(ctx, (*MODEL_OPTIONS, *sorted(ABOUT_COMPUTING)), "--engine overlap uses no model")
    else:
        others = ABOUT_COMPUTING.difference(ENGINE_OPTIONS[engine])
        refuse(ctx, tuple(sorted(others)), f"it is not for --engine {engine}")


def chosen_settings(options: Mapping[str, Any]) -> Settings:
    """How the engine of a command's options computes."""
    engine = options["engine"]
    server = workers = None
    if engine == "openai":
        if options["base_url"] is None:
            raise UsageError("--engine openai needs --base-url", hint="--base-url http://127.0.0.1:8000/v1")
        if options["max_length"] is not None and options["tokenizer"] is None:
            raise UsageError("--max-length has no effect: without --tokenizer nothing is shortened")
        server = Server(options["base_url"], options["concurrency"])
    elif engine == "ray":
        workers = Workers(*(options[name] for name in WORKER_OPTIONS))
    names = ("device", "dtype", "max_length", "batch_tokens", "threads")
    return Settings(**{name: options[name] for name in names}, server=server, workers=workers)


def chosen_fields(options: Mapping[str, Any]) -> Fields:
    """Where a corpus has its ids, texts and titles."""
    id_field, text_field, title_field = (options[name] for name in ("id_field", "text_field", "title_field"))
    names = options["tsv_columns"]
    columns = tuple(names.split(",")) if names is not None else None
    if columns and (columns.count("id") != 1 or columns.count("text") != 1 or columns.count("title") > 1):
        raise UsageError(f"--tsv-columns {names}: needs id and text once, and may name title once")
    default = Fields()
    named = {"--id-field": id_field, "--text-field": text_field, "--title-field": title_field}
    return Fields(
        (id_field,) if id_field is not None else default.ids,
        (text_field,) if text_field is not None else default.texts,
        title_field if title_field is not None else default.title,
        columns,
        tuple(name for name, value in named.items() if value is not None),
    )


def chosen_columns(names: str | None) -> tuple[str, ...] | None:
    """The names of the columns of TSV queries."""
    columns = tuple(names.split(",")) if names is not None else None
    if columns and (columns.count("id") != 1 or len(set(columns)) < max(2, len(columns))):
        raise UsageError(f"--query-columns {names}: needs id once, and each other name once")
    return columns


def refuse(ctx: typer.Context, names: tuple[str, ...], reason: str) -> None:
    """UsageError for an option of these that was given on the command line; the environment's do not count."""
    for name in names:
        if on_command_line(ctx, (name,)):
            raise UsageError(f"--{name.replace('_', '-')} has no effect: {reason}")


def on_command_line(ctx: typer.Context, names: tuple[str, ...]) -> frozenset[str]:
    """Those of the options that were given on the command line."""
    sources = {name: ctx.get_parameter_source(name) for name in names}
    return frozenset(name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE")


def _template(path: str) -> Template:
    try:
        with open(path, encoding="utf-8-sig") as file:  # line ends of any kind become \n
            return Template.parse(file.read(), path)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path) from error
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8", path) from error


def _labels(text: str) -> tuple[str, ...]:
    labels = tuple(text.split(","))
    if len(labels) != 2 or not all(labels) or labels[0] == labels[1]:
        raise UsageError(f"--labels {text}: needs two labels and one comma, the one for relevant first")
    return labels
