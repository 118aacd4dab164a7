"""Options that several commands have: which model, how it is asked, where it computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from lbr_cli.errors import InputError, UsageError
from lbr_cli.families import FAMILIES, Template
from lbr_cli.models import Model, resolve

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
# those that say which model and how it is asked, by the names of their parameters
MODEL_OPTIONS = (
    *("model", "revision", "family", "instruction", "prompt_file", "labels", "query_prompt", "document_prompt"),
    "trust_remote_code",
)


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
    return resolve(
        options["model"],
        options["family"],
        options["revision"],
        chosen={field: value for field, value in chosen.items() if value is not None},
        trusted=options["trust_remote_code"],
    )


def refuse(ctx: typer.Context, names: tuple[str, ...], reason: str) -> None:
    """UsageError for an option of these that was given on the command line; the environment's do not count."""
    for name in names:
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"--{name.replace('_', '-')} has no effect: {reason}")


def _template(path: str) -> Template:
    try:
        with open(path, encoding="utf-8") as file:
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
