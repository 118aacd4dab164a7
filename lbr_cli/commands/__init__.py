"""The command line: one module for each command, imported when the command is called.

`main` is the only place where errors become a line on stderr and an exit code.
"""

from __future__ import annotations

import gc
import io
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Annotated, NoReturn

import typer
import typer.main

from lbr_cli import __version__
from lbr_cli.commands.command import MAX_WIDTH, LazyCommand
from lbr_cli.errors import PASSING, LbrError, ReaderGone, RunError
from lbr_cli.progress import print_error

INTERRUPTED = 130
TERMINATED = 143
UNWINDING = 2.0  # seconds

# each command, by the name of its module, and its line in `lbr --help`
COMMANDS = {
    "rerank": "Rerank the candidates of RUN by the scores of a model.",
    "evaluate": "Compute measures of runs and compare them with the first.",
    "report": "Write an HTML page that compares runs.",
    "models": "List the models that have an alias, and the families.",
    "doctor": "Print versions and devices; test a model on this machine.",
    "cache": "Show, prune or clear the score cache.",
}


class Stopped(BaseException):
    """SIGINT or SIGTERM: unwinds everything, so that no half-written file is left. Typer would swallow the first."""

    at = -math.inf  # when a signal was last heard

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lbr {__version__}")
        raise typer.Exit


def lbr(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Rerank files of search candidates with a local transformers model."""


def program() -> typer.core.TyperGroup:
    """Return the command line, whose commands are not imported yet."""
    # help is plain text without rich, so that it can be searched and piped
    settings = {"help_option_names": ["-h", "--help"], "max_content_width": MAX_WIDTH}
    app = typer.Typer(rich_markup_mode=None, add_completion=False, context_settings=settings)
    app.callback()(lbr)
    group = typer.main.get_group(app)
    for name, summary in COMMANDS.items():
        group.add_command(LazyCommand(name, help=summary))
    return group


def main() -> NoReturn:
    """Run the program and leave with its exit code: 0, 1, 2, 130 or 143 (see the README)."""
    for number, code in ((signal.SIGINT, INTERRUPTED), (signal.SIGTERM, TERMINATED)):
        if signal.getsignal(number) != signal.SIG_IGN:  # as it is for a job in the background of a script
            signal.signal(number, _stopping(code))
    # a job makes millions of objects and hardly a cycle: looking for cycles as often as by default takes longer
    # than the work itself
    gc.set_threshold(200_000, 100, 100)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # UTF-8 whatever the locale; names come out as they came in
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    try:
        code = _flushed(_run())
    except Stopped as stop:  # while something else was being told
        code = stop.code
    for number in (signal.SIGINT, signal.SIGTERM):  # what there is to say has been said
        signal.signal(number, signal.SIG_IGN)
    sys.stdout = sys.stderr  # what a library says when it ends is no result
    sys.exit(code)


def _flushed(code: int) -> int:
    """The exit code, once what was printed is out."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        return _stdout_failed(error)
    return code


def _stdout_failed(error: OSError) -> int:
    """The end of --help or --version that nobody reads, or that has no room; results have their own `Output`."""
    # what is in the buffer will not get out: keep Python from trying again on its way
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return 0
    print_error(f"standard output: cannot be written: {error.strerror}")
    return RunError.exit_code


def _run() -> int:
    try:
        # Typer turns a reader that has gone into SystemExit
        code: int = program()(prog_name="lbr", standalone_mode=False) or 0
    except LbrError as error:
        print_error(str(error))
        if error.hint:
            print_error(f"hint: {error.hint}")
        return error.exit_code
    except typer.TyperException as error:
        print_error(error.format_message().replace("Value error, ", "", 1))  # a prefix of pydantic
        command = " ".join(["lbr", *(name for name in sys.argv[1:2] if name in COMMANDS)])
        print_error(f"hint: see {command} --help")
        return error.exit_code
    except (ReaderGone, SystemExit):
        return 0
    except OSError as error:
        if error.errno not in PASSING:
            raise
        return _stdout_failed(error)
    except MemoryError:
        print_error("out of memory")
        return RunError.exit_code
    except Stopped as stop:
        word = "interrupted" if stop.code == INTERRUPTED else "terminated"
        print_error(": ".join([word, *getattr(stop, "__notes__", ())]))
        return stop.code
    return code


def _stopping(code: int) -> Callable[[int, FrameType | None], None]:
    """What a signal does: it stops the program, and one that comes while that goes on is not heard.

    It is heard again after a while, should the first have been lost on its way, as in the end of some object.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        last, Stopped.at = Stopped.at, time.monotonic()
        if Stopped.at - last > UNWINDING:
            raise Stopped(code)
        Stopped.at = last

    return stop
