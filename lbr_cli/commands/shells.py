"""Shell completion: Typer's scripts and protocol for bash, zsh and fish, with errors instead of tracebacks."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import typer
import typer.main

from lbr_cli.errors import PASSING, MissingError, RunError

VARIABLE = "_LBR_COMPLETE"  # set by the scripts when they call lbr
SHELLS = ("bash", "zsh", "fish")
HELPS = {
    "install_completion": "Install completion for the current shell: bash, zsh or fish.",
    "show_completion": "Print the completion script for the current shell.",
}


def is_completing() -> bool:
    """Return whether a shell asks for completions, or for its script."""
    return VARIABLE in os.environ


def group_with_completion(app: typer.Typer) -> typer.core.TyperGroup:
    """Return the group of an app, with --install-completion and --show-completion."""
    group = typer.main.get_command(app)
    if not isinstance(group, typer.core.TyperGroup):
        raise TypeError("the app has no commands")
    for option in group.params:
        if option.name in HELPS and isinstance(option, typer.core.TyperOption):
            option.help = HELPS[option.name]
            option.callback = _checked(option.name, option.callback)
    return group


def _checked(name: str, callback: Callable[..., Any] | None) -> Callable[..., Any]:
    """Return the callback of an option, with a MissingError if the shell or its files cannot be used."""
    flag = f"--{name.replace('_', '-')}"

    def call(ctx: Any, param: Any, value: Any) -> Any:
        if not value or ctx.resilient_parsing or callback is None:
            return value
        shell = _current_shell()
        if shell not in SHELLS:
            problem = f"unsupported shell {shell}" if shell else "the current shell is unknown"
            hint = f"{VARIABLE}=source_bash lbr prints the script of bash; zsh and fish likewise"
            raise MissingError(f"{flag}: {problem}", hint=hint)
        try:
            return callback(ctx, param, value)
        except (OSError, RuntimeError, UnicodeDecodeError) as error:
            kind = RunError if isinstance(error, OSError) and error.errno in PASSING else MissingError
            raise kind(f"{flag}: {_reason(error)}", hint="--show-completion prints the script") from error

    return call


def _current_shell() -> str:
    """Return the name of the shell that runs this process, "" if there is none."""
    import shellingham

    try:
        name: str = shellingham.detect_shell()[0]
    except shellingham.ShellDetectionFailure:
        return ""
    return name


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: cannot be written: {error.strerror}"
    return str(error)
