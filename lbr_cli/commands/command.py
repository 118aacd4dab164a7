"""Build a command from a function whose parameters are options and groups of options, with plain text as help.

A group is a dataclass whose fields are options. Typer reads one signature made of all options, and the function gets
the parsed values as instances of the groups.
"""

from __future__ import annotations

import importlib
import inspect
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields
from itertools import zip_longest
from typing import Any, ClassVar, Self, cast, get_type_hints

import typer
import typer.core
import typer.main
from typer.models import OptionInfo

from lbr_cli.errors import UsageError

EXAMPLES = "Examples:\n"  # begins the last section of a command's docstring
LAST_HEADING = "Diagnostics"  # heading of options without a group, such as --help, if other options have a group
MAX_WIDTH = 120  # columns of the help
NAME_WIDTH = 34  # longer names have their help on the next line
ENV_PREFIX = "LBR_"
BRACES, ANGLES = (dict.fromkeys(map(ord, marks)) for marks in ("{}", "<>"))  # Typer writes them around placeholders


def option(
    metavar: str | None,
    text: str,
    default: Any = None,
    *,
    short: str | None = None,
    env: bool = False,
    choices: Iterable[str] = (),
    unset: str | bool = True,
    **others: Any,
) -> Any:
    """Return the default of a field or parameter that is an option, whose flags follow from its name.

    `metavar` is None for a bool and for a Literal whose choices are listed; `default` is `...` for a required option;
    `short` is a second flag, such as "-m"; `env` adds the environment variable LBR_NAME; `choices` are the names of a
    registry; `unset` describes the default None; `others` are the `min` and `max` of a number, and `autocompletion`.
    """
    flags = [short] if short else []
    named: Any = {"metavar": metavar, "envvar": ENV_PREFIX if env else None, "show_default": unset}
    if choices:
        named |= {"parser": _one_of(choices), "autocompletion": completion(choices)}
    return typer.Option(default, *flags, help=text, **named, **others)


def flag(text: str) -> Any:
    """Return an option of type bool that is True if it is on the command line."""
    return option(None, text, False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionGroup:
    """The options under one heading of --help, each a field with `option` or `flag` as its default.

    `given` has the names of the options on the command line; environment variables do not count. The constructor
    raises UsageError for options that exclude each other.
    """

    heading: ClassVar[str] = ""
    given: frozenset[str] = frozenset()

    @classmethod
    def names(cls) -> list[str]:
        return [field.name for field in fields(cls) if field.name != "given"]

    @classmethod
    def parameters(cls) -> list[inspect.Parameter]:
        """Return the parameters of a function that takes these options."""
        hints = get_type_hints(cls)
        defaults = {field.name: field.default for field in fields(cls)}
        return [_parameter(name, hints[name], defaults[name], cls.heading, cls.readers(name)) for name in cls.names()]

    @classmethod
    def readers(cls, option: str) -> list[str]:
        """Return the names of the families or engines that read an option; none if all do."""
        return []

    @classmethod
    def parsed(cls, values: Mapping[str, Any], given: Collection[str]) -> Self:
        """Return the group with its part of the values of a command."""
        return cls(**{name: values[name] for name in cls.names()}, given=frozenset(cls.names()).intersection(given))

    def values(self) -> dict[str, Any]:
        """Return the options by name, for the manifest."""
        return {name: getattr(self, name) for name in self.names()}

    def refuse(self, names: Iterable[str], reason: str) -> None:
        """Raise UsageError if one of the options `names` is on the command line."""
        refuse(self.given, names, reason)

    def check_utf8(self, *names: str) -> None:
        """Raise UsageError for a text that is not UTF-8."""
        for name in names:
            if any("\ud800" <= letter <= "\udfff" for letter in getattr(self, name) or ""):
                raise UsageError(f"{flag_of(name)}: not UTF-8")


def refuse(given: Collection[str], names: Iterable[str], reason: str) -> None:
    """Raise UsageError for the first of `names` in `given`, an option without effect."""
    for name in names:
        if name in given:
            raise UsageError(f"{flag_of(name)} has no effect: {reason}")


def completion(words: Iterable[str]) -> Callable[[str], list[str]]:
    """Return the `autocompletion` of an option or argument whose usual values are `words`."""
    known = list(words)

    def complete(incomplete: str) -> list[str]:
        return [word for word in known if word.startswith(incomplete)]

    return complete


def error_message(error: typer.TyperException) -> str:
    """Return the message of an invalid option."""
    return error.format_message().replace("Value error, ", "", 1)  # a prefix of pydantic


def command(function: Callable[..., None]) -> Command:
    """Return the command that calls `function`. Its docstring is the help, and may end with a section of examples."""
    hints = get_type_hints(function)
    groups = {name: hint for name, hint in hints.items() if isinstance(hint, type) and issubclass(hint, OptionGroup)}
    parameters = [inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    plain = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in groups:
            parameters += groups[name].parameters()
        else:
            plain.append(name)
            parameters.append(_parameter(name, hints[name], parameter.default))

    def call(ctx: typer.Context, **values: Any) -> None:
        given = {name for name in values if _on_command_line(ctx, name)}
        grouped = {name: group.parsed(values, given) for name, group in groups.items()}
        function(**{name: values[name] for name in plain}, **grouped)

    help_text, _, examples = (inspect.getdoc(function) or "").partition(EXAMPLES)
    return built(call, parameters, name=function.__name__, help=help_text, epilog=textwrap.dedent(examples))


def built(call: Callable[..., None], parameters: Sequence[inspect.Parameter], **texts: str) -> Command:
    """Return the command of `call`, which takes any keyword arguments, with these parameters."""
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by inspect.signature
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command(cls=Command, **texts)(call)  # type: ignore[arg-type]
    return cast(Command, typer.main.get_command(app))


def _parameter(name: str, hint: Any, default: Any, heading: str = "", readers: Sequence[str] = ()) -> inspect.Parameter:
    """Return a parameter for Typer: the flags, the environment variable and the readers of an option are added."""
    if isinstance(default, OptionInfo):
        default = copy(default)
        if default.param_decls or default.default is False:  # Typer adds --NAME/--no-NAME to any other bool
            default.param_decls = (flag_of(name), *(default.param_decls or ()))
        if default.envvar:
            default.envvar = f"{ENV_PREFIX}{name.upper()}"
        if readers:
            default.help = f"{default.help.removesuffix('.')} ({', '.join(readers)})."
        default.rich_help_panel = heading  # Typer stores it with the option, also without rich
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


class Command(typer.core.TyperCommand):
    """A command whose help lists its options by group, as plain text, and ends with examples."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.translate(BRACES) for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        params = self.get_params(ctx)
        panels = [getattr(param, "rich_help_panel", None) for param in params]
        others = LAST_HEADING if any(panels) else "Options"
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": []}
        for param, panel in zip(params, panels, strict=True):
            name, text = param.get_help_record(ctx) or ("", "")
            if param.param_type_name == "argument":
                sections["Arguments"].append((f"{param.metavar}{'...' if param.nargs != 1 else ''}", text))
            else:
                sections.setdefault(panel or others, []).append((name.translate(ANGLES), text))
        width = max(len(name) for rows in sections.values() for name, _ in rows if len(name) <= NAME_WIDTH)
        for heading, rows in sections.items():
            if rows:
                with formatter.section(heading):
                    for name, text in rows:
                        _write_option(formatter, name, text, width)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        if self.epilog:
            with formatter.section(EXAMPLES.strip(":\n")):
                formatter.write(textwrap.indent(self.epilog, " " * formatter.current_indent))


class LazyCommand(typer.core.TyperCommand):
    """A command whose module, of the same name, is imported when it is called. Its help is a line in a list."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        module = importlib.import_module(f"lbr_cli.commands.{self.name}")
        loaded: Command = getattr(module, self.name or "")
        return loaded.make_context(info_name, args, parent, **extra)


def _write_option(formatter: Any, name: str, text: str, width: int) -> None:
    """Write a name and its help side by side. Unlike Typer's, no name in the text is broken at a hyphen."""
    lines = textwrap.wrap(text, formatter.width - width - 4, break_on_hyphens=False, break_long_words=False)
    if len(name) > width:
        lines.insert(0, "")
    for left, line in zip_longest([name], lines, fillvalue=""):
        formatter.write(f"  {left:{width}}  {line}".rstrip() + "\n")


def _one_of(names: Iterable[str]) -> Callable[[str], str]:
    """Return the parser of an option whose choices are the names of a registry."""
    choices = list(names)

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{text!r} is not one of {', '.join(map(repr, choices))}.")
        return text

    return parse


def _on_command_line(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def flag_of(name: str) -> str:
    """Return the flag of an option, such as --max-length for max_length."""
    return f"--{name.replace('_', '-')}"
