"""`lbr doctor`: print versions and devices, and test a model on this machine."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lbr_cli.commands.options import (
    MODEL_OPTIONS,
    Device,
    DocumentPrompt,
    Dtype,
    FamilyName,
    Instruction,
    Labels,
    PromptFile,
    QueryPrompt,
    Revision,
    TrustRemoteCode,
    chosen_model,
    refuse,
)
from lbr_cli.doctor import examine
from lbr_cli.engines import Settings
from lbr_cli.errors import RunError
from lbr_cli.progress import Console, printable


def doctor(
    ctx: typer.Context,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Test this model too: alias, hub id, folder or GGUF file."),
    ] = None,
    revision: Revision = None,
    family: FamilyName = None,
    instruction: Instruction = None,
    prompt_file: PromptFile = None,
    labels: Labels = None,
    query_prompt: QueryPrompt = None,
    document_prompt: DocumentPrompt = None,
    trust_remote_code: TrustRemoteCode = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Tell versions and devices, and try a model: how it computes, and whether its scores are right.

    lbr doctor --model minilm
    """
    if sys.stdout is None:
        raise RunError("standard output is closed")
    chosen = None
    if model is None:
        refuse(ctx, MODEL_OPTIONS, "there is no --model")
    else:
        chosen = chosen_model(ctx.params)
    with Console(bar=False, quiet=True) as console:
        for name, finding in examine(chosen, Settings(device, dtype), console):
            typer.echo(printable(f"{name:<14}{finding}"))
