"""`lbr doctor`: whether this machine and a model work together."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lbr_cli.commands.options import Device, Dtype, FamilyName, Revision
from lbr_cli.doctor import examine
from lbr_cli.engines import Settings
from lbr_cli.errors import RunError
from lbr_cli.models import resolve
from lbr_cli.progress import Console


def doctor(
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Test this model too: alias (lb, minilm), hub id or folder.")
    ] = None,
    revision: Revision = None,
    family: FamilyName = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
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
