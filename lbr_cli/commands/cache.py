"""`lbr cache`: show, prune and clear the score cache."""

from __future__ import annotations

import os
import re
from datetime import date, timedelta
from typing import Annotated

import typer
import typer.core

from lbr_cli.cache import open_database
from lbr_cli.cache.database import today
from lbr_cli.cache.location import DEFAULT_SIZE, CacheLocation, cache_location
from lbr_cli.commands.command import command
from lbr_cli.commands.options.cache import CacheDir, CacheSize
from lbr_cli.errors import MissingError, UsageError
from lbr_cli.formats.output import check_stdout
from lbr_cli.models import label
from lbr_cli.progress import printable
from lbr_cli.wording import counted

ROW = "{:>10}{:>10}  {:<12}{}"  # the name last: it may be long
DAYS = {"d": 1, "w": 7}


@command
def info(cache_dir: CacheDir = None, cache_size: CacheSize = DEFAULT_SIZE) -> None:
    """Show the size of the score cache and the entries of each model.

    Examples:
        lbr cache info
    """
    where = _location(cache_dir, cache_size)
    if not os.path.exists(where.file):
        _print(f"{where.file}: not there yet")
        return
    with open_database(where) as database:
        _print(f"{where.file}: {_bytes(database.size())} of {_bytes(where.limit)}")
        rows = database.models()
    _print(ROW.format("entries", "bytes", "last used", "model"))
    for row in rows:
        used = date(1970, 1, 1) + timedelta(days=row.last_used)
        _print(ROW.format(row.entries, _bytes(row.bytes), used.isoformat(), row.name))


@command
def prune(
    older_than: Annotated[
        str, typer.Option(metavar="DAYS", help="Time since the last use, in days or weeks: 30d, 8w.")
    ],
    cache_dir: CacheDir = None,
) -> None:
    """Remove scores that have not been used for some time.

    Examples:
        lbr cache prune --older-than 30d
    """
    told = re.fullmatch(r"(\d{1,5})([dw]?)", older_than, re.ASCII)
    if told is None:
        raise UsageError(f"--older-than {older_than}: not a time", hint="a number of days or weeks: 30d, 8w")
    before = today() - int(told[1]) * DAYS[told[2] or "d"]
    where = _location(cache_dir)
    removed = 0
    if os.path.exists(where.file):
        with open_database(where) as database:
            removed = database.remove("day < ?", before)
    _print(f"{counted(removed, 'entry', 'entries')} removed from {where.file}")


@command
def clear(
    cache_dir: CacheDir = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="MODEL", help="Model, as in lbr rerank --model.", show_default="all"),
    ] = None,
) -> None:
    """Remove the scores of a model, or all scores.

    Examples:
        lbr cache clear --model minilm
    """
    where = _location(cache_dir)
    removed = 0
    if os.path.exists(where.file):
        with open_database(where) as database:
            if model is None:
                removed = database.remove()
                database.clear_memo()
            else:
                kept = {row.name for row in database.models()}
                # a folder may be gone by now
                name = next((name for name in (label(model), os.path.abspath(model)) if name in kept), None)
                if name is None:
                    raise UsageError(f"--model {model}: nothing is kept of it", hint="lbr cache info lists the models")
                removed = database.remove_model(name)
    _print(f"{counted(removed, 'entry', 'entries')} removed from {where.file}")


cache = typer.core.TyperGroup(
    name="cache", commands=[info, prune, clear], help="Show, prune or clear the score cache.", rich_markup_mode=None
)


def _location(cache_dir: str | None, cache_size: str = DEFAULT_SIZE) -> CacheLocation:
    check_stdout()
    where = cache_location(cache_dir, cache_size)
    problem = where.problem()
    if problem:
        raise MissingError(f"no score cache: {problem}")
    return where


def _print(line: str) -> None:
    """Print one line; names of files and models may contain control characters."""
    typer.echo(printable(line))


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
