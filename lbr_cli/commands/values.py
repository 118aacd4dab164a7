"""Options given as Python values, for `lbr_cli.Reranker`: checked as on the command line, with the same messages."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, get_args

import typer

from lbr_cli.commands.command import OptionGroup, built, error_message, flag_of
from lbr_cli.errors import UsageError


def option_values(
    groups: Iterable[type[OptionGroup]], arguments: Mapping[str, Any]
) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the values of all options of `groups` by name, and the names of those in `arguments` that are not None.

    Other options have the value of their environment variable, or their default. UsageError for an invalid value.
    """
    given = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in arguments.items()}
    given = {name: value for name, value in given.items() if value is not None}
    parameters = [parameter for group in groups for parameter in group.parameters()]
    for parameter in parameters:
        if parameter.name in given:
            _check_type(parameter.name, parameter.annotation, given[parameter.name])
    command = built(_nothing, parameters)
    context = typer.Context(command)
    try:
        for option in command.params:
            option.handle_parse_result(context, given, [])
    except typer.TyperException as error:
        raise UsageError(error_message(error)) from error
    return context.params, frozenset(given)


def _nothing(**values: Any) -> None:
    """Do nothing: the options are parsed, and no command runs."""


def _check_type(name: str, annotation: Any, value: Any) -> None:
    """Raise UsageError for a value that Typer would convert, such as 1 to a string or True to a number."""
    types = get_args(annotation) or (annotation,)
    if (str in types and not isinstance(value, str)) or isinstance(value, bool) != (bool in types):
        raise UsageError(f"Invalid value for '{flag_of(name)}': {value!r} is of the type {type(value).__name__}")
