"""The command line. A command is a module of the same name, imported when it is called.

Only `main` turns errors into a line on stderr and an exit code.
"""

from __future__ import annotations

import gc
import math
import os
import signal
import sys
import time
from types import FrameType
from typing import Annotated, NoReturn

import typer

from lbr_cli import __version__
from lbr_cli.commands.command import MAX_WIDTH, LazyCommand, error_message
from lbr_cli.commands.shells import group_with_completion, is_completing
from lbr_cli.descriptors import patient, reserve_standard_descriptors
from lbr_cli.errors import PASSING, LbrError, ReaderGone, RunError, UsageError
from lbr_cli.progress import print_error

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
ENDINGS = {130: "interrupted", 143: "terminated", 129: "hung up"}
UNWINDING = 2.0  # seconds after a signal in which further signals are ignored, so that the program can stop

# each command and its line in `lbr --help`
COMMANDS = {
    "rerank": "Rerank the candidates of RUN by the scores of a model.",
    "fuse": "Fuse several runs into one, without a model.",
    "evaluate": "Compute measures of runs and compare them with the first.",
    "tune": "Find the best weight for --interpolate.",
    "report": "Write an HTML page that compares runs.",
    "models": "List the models that have an alias, and the families.",
    "doctor": "Print versions and devices; test a model on this machine.",
    "cache": "Show, prune or clear the score cache.",
}


class Stopped(BaseException):
    """Raised by the signals of `EXIT_CODES`: unwinding removes temporary files. Typer catches KeyboardInterrupt."""

    raised_at = -math.inf

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


def _show_version(is_set: bool) -> None:
    if is_set:
        typer.echo(f"lbr {__version__}")
        raise typer.Exit


def lbr(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Rerank files of search candidates with a local transformers model."""


def program() -> typer.core.TyperGroup:
    """Return the command line. It imports no command."""
    # without rich, the help is plain text, which can be searched and piped
    settings = {"help_option_names": ["-h", "--help"], "max_content_width": MAX_WIDTH}
    app = typer.Typer(rich_markup_mode=None, context_settings=settings)
    app.callback()(lbr)
    group = group_with_completion(app)
    for name, summary in COMMANDS.items():
        group.add_command(LazyCommand(name, help=summary))
    return group


def main() -> NoReturn:
    """Run the program and exit with 0, 1, 2, 129, 130 or 143 (see docs/exit-codes-and-messages.md)."""
    reserve_standard_descriptors()
    for number in EXIT_CODES:
        if signal.getsignal(number) != signal.SIG_IGN:  # as background jobs of a script ignore SIGINT, nohup SIGHUP
            signal.signal(number, _stop)
    # a job creates millions of objects and few cycles: with the default thresholds, collection takes most of the time
    gc.set_threshold(200_000, 100, 100)
    # a job continues if the terminal with its messages is closed
    sys.stdout, sys.stderr = patient(sys.stdout), patient(sys.stderr, lossy=True)
    try:
        code = _flushed(_run())
    except Stopped as stop:  # raised while an error was printed
        code = stop.code
    for number in EXIT_CODES:
        signal.signal(number, signal.SIG_IGN)
    sys.stdout = sys.stderr  # libraries may print when the interpreter exits
    sys.exit(code)


def _flushed(code: int) -> int:
    """Return the exit code after flushing standard output."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        return _stdout_failed(error)
    return code


def _stdout_failed(error: OSError) -> int:
    """Return the exit code if --help or --version cannot be written; rankings have their own `Output`."""
    # the rest of the buffer is lost: Python must not flush it again when it exits
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return 0
    return _failed(RunError.exit_code, f"standard output: cannot be written: {error.strerror}")


def _run() -> int:
    try:
        code: int = program()(prog_name="lbr", standalone_mode=False) or 0
    except LbrError as error:
        return _failed(error.exit_code, str(error), error.hint)
    except typer.TyperException as error:
        command = " ".join(["lbr", *(name for name in sys.argv[1:2] if name in COMMANDS)])
        return _failed(error.exit_code, error_message(error), f"see {command} --help")
    except SystemExit as ended:  # the end of a completion; Typer also turns a closed pipe into SystemExit
        return int(ended.code or 0) if is_completing() else _stdout_failed(BrokenPipeError())
    except ReaderGone:
        return 0
    except OSError as error:
        if isinstance(error, FileNotFoundError) and _is_folder_removed():
            hint = "change to a folder that exists, with cd"
            return _failed(UsageError.exit_code, "the current folder was removed", hint)
        is_passing = error.errno in PASSING
        if error.filename is not None and (is_passing or isinstance(error, PermissionError)):
            code = RunError.exit_code if is_passing else UsageError.exit_code
            return _failed(code, f"{os.fsdecode(error.filename)}: {error.strerror}")
        if not is_passing:
            raise
        return _stdout_failed(error)
    except MemoryError:
        return _failed(RunError.exit_code, "out of memory")
    except Stopped as stop:
        return _failed(stop.code, ": ".join([ENDINGS[stop.code], *getattr(stop, "__notes__", ())]))
    return code


def _failed(code: int, message: str, hint: str = "") -> int:
    """Print an error and return its exit code."""
    print_error(message)
    if hint:
        print_error(f"hint: {hint}")
    return code


def _is_folder_removed() -> bool:
    """Return whether the current folder was removed, so that no relative path can be resolved."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _stop(number: int, frame: FrameType | None) -> None:
    """Handle a signal: raise Stopped, but not again within `UNWINDING`.

    A later signal raises it again, because Python discards an exception in a destructor.
    """
    now = time.monotonic()
    if now - Stopped.raised_at > UNWINDING:
        Stopped.raised_at = now
        raise Stopped(EXIT_CODES[signal.Signals(number)])
