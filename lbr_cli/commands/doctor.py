"""`lbr doctor`: whether this machine and a model work together."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from lbr_cli.doctor import examine
from lbr_cli.engines import Settings
from lbr_cli.errors import RunError
from lbr_cli.models import resolve
from lbr_cli.progress import Console


def doctor(
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Test this model too: alias (lb, minilm), hub id or folder.")
    ] = None,
    revision: Annotated[str | None, typer.Option(metavar="REV", help="Branch, tag or commit on the hub.")] = None,
    family: Annotated[
        Literal["lb", "lb-rev", "classifier", "bi-encoder"] | None,
        typer.Option(help="How to ask a model that does not say so itself."),
    ] = None,
    device: Annotated[
        str, typer.Option(envvar="LBR_DEVICE", help="cpu, cuda, cuda:1, mps; auto is the best there is.")
    ] = "auto",
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        typer.Option(envvar="LBR_DTYPE", help="Precision; auto is bfloat16 where the device computes in it."),
    ] = "auto",
) -> None:
    """Tell versions and devices, and try a model: how it computes, and whether its scores are right.

    lbr doctor --model minilm
    """
    if sys.stdout is None:
        raise RunError("standard output is closed")
    chosen = resolve(model, family, revision) if model is not None else None
    with Console(bar=False, quiet=True) as console:
        for name, finding in examine(chosen, Settings(device, dtype), console):
            typer.echo(f"{name:<14}{finding}")
