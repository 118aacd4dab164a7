"""`lbr cache`: show, prune and clear the score cache."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import date, timedelta

import typer
import typer.core

from lbr_cli.cache import open_database
from lbr_cli.cache.database import Database, today
from lbr_cli.cache.location import DEFAULT_SIZE, CacheLocation, cache_location
from lbr_cli.commands.command import command, completion, option
from lbr_cli.commands.options.cache import CACHE_DIR, CACHE_SIZE
from lbr_cli.errors import MissingError, UsageError
from lbr_cli.formats.output import check_stdout
from lbr_cli.models import ALIASES, label
from lbr_cli.progress import printable
from lbr_cli.wording import counted

ROW = "{:>10}{:>10}  {:<12}{}"  # the name is last, because it may be long
DAYS = {"d": 1, "w": 7}
OLDER_THAN = option("DAYS", "Time since the last use, in days or weeks: 30d, 8w.", ...)
MODEL = option("MODEL", "Model, as in lbr rerank --model.", short="-m", unset="all", autocompletion=completion(ALIASES))


@command
def info(cache_dir: str | None = CACHE_DIR, cache_size: str = CACHE_SIZE) -> None:
    """Show the size of the score cache and the entries of each model.

    Examples:
        lbr cache info
    """
    location = _location(cache_dir, cache_size)
    if not os.path.exists(location.file):
        _print(f"{location.file}: does not exist yet")
        return
    with open_database(location) as database:
        _print(f"{location.file}: {_bytes(database.size())} of {_bytes(location.limit)}")
        rows = database.models()
    _print(ROW.format("entries", "bytes", "last used", "model"))
    for row in rows:
        used = date(1970, 1, 1) + timedelta(days=row.last_used)
        _print(ROW.format(row.entries, _bytes(row.bytes), used.isoformat(), row.name))


@command
def prune(older_than: str = OLDER_THAN, cache_dir: str | None = CACHE_DIR) -> None:
    """Remove scores that have not been used for some time.

    Examples:
        lbr cache prune --older-than 30d
    """
    age = re.fullmatch(r"(\d{1,5})([dw]?)", older_than, re.ASCII)
    if age is None:
        raise UsageError(f"--older-than {older_than}: invalid time", hint="a number of days or weeks: 30d, 8w")
    before = today() - int(age[1]) * DAYS[age[2] or "d"]
    _remove(cache_dir, lambda database: database.remove("day < ?", before))


@command
def clear(cache_dir: str | None = CACHE_DIR, model: str | None = MODEL) -> None:
    """Remove the scores of a model, or all scores.

    Examples:
        lbr cache clear --model minilm
    """
    _remove(cache_dir, lambda database: _clear(database, model))


cache = typer.core.TyperGroup(
    name="cache", commands=[info, prune, clear], help="Show, prune or clear the score cache.", rich_markup_mode=None
)


def _location(cache_dir: str | None, cache_size: str = DEFAULT_SIZE) -> CacheLocation:
    check_stdout()
    location = cache_location(cache_dir, cache_size)
    problem = location.problem()
    if problem:
        raise MissingError(f"no score cache: {problem}")
    return location


def _remove(cache_dir: str | None, remove: Callable[[Database], int]) -> None:
    """Remove scores from the cache, if it exists, and print how many."""
    location = _location(cache_dir)
    removed = 0
    if os.path.exists(location.file):
        with open_database(location) as database:
            removed = remove(database)
    _print(f"{counted(removed, 'entry', 'entries')} removed from {location.file}")


def _clear(database: Database, model: str | None) -> int:
    if model is None:
        removed = database.remove()
        database.clear_memo()
        return removed
    names = {row.name for row in database.models()}
    for name in (label(model), os.path.abspath(model)):  # the path is the name of a folder that no longer exists
        if name in names:
            return database.remove_model(name)
    raise UsageError(f"--model {model}: no cached scores", hint="lbr cache info lists the models")


def _print(line: str) -> None:
    """Print one line, with control characters escaped, which names of files and models may contain."""
    typer.echo(printable(line))


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
