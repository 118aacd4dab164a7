"""Run `lbr` in forked processes, which have imported the package and its libraries already.

Importing torch and transformers takes seconds, more than most tests compute. The server imports them once and forks a
child for each call. A child has the file descriptors, folder, environment, arguments and signal handlers of a fresh
`python -m lbr_cli`, runs the same `main` and ends with the interpreter, so exit codes are real.

Libraries read environment variables when they are imported. The server therefore refuses a call whose environment
differs from its own in a variable that is not known to be read later, and the caller starts a fresh process.

Modules are imported level by level: a level has its own server process, forked by the first call that needs it.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

ROOT = Path(__file__).parents[2]
# imported for every level: the command line, and what it imports when a command begins
COMMAND_LINE = (
    *(f"lbr_cli.commands.{name}" for name in ("rerank", "evaluate", "report", "models", "doctor", "cache")),
    *("lbr_cli.job", "lbr_cli.preview", "lbr_cli.engines.overlap"),
    *("typer._adapters", "pydantic.type_adapter", "pydantic.types"),
)
# the modules that the server of a level also imports before it forks
LEVELS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "evaluation": ("ir_measures", "pytrec_eval", "scipy.stats", "matplotlib.figure", "rich.table", "rich.console"),
    "local": ("lbr_cli.engines.local", "lbr_cli.engines.openai"),
    # imports of the local engine, without the libraries that read HF_HOME and HF_ENDPOINT
    "hub": ("torch._dynamo", "torch.distributed.tensor", "torch.nn.attention.flex_attention", "scipy.optimize"),
}
# read when the program runs, not when a module is imported
LATE = ("LBR_", "OPENAI_", "NO_PROXY", "RAY_", "PATH", "PWD", "OLDPWD", "SHLVL", "_")
LATE_OF_HUB = ("HF_",)  # also late in a level that has not imported huggingface_hub
# variables of the user, and those that pytest, torch and scikit-learn set in the process that imports them
DROPPED = ("LBR_", "PYTEST_", "COLUMNS", "LINES", "KMP_", "TORCHINDUCTOR_")
START = dict(os.environ)


# ---------------------------------------------------------------- the server


def main(folder: str) -> None:
    """Serve until standard input ends."""
    listeners = {}
    for level in LEVELS:
        listeners[level] = socket.socket(socket.AF_UNIX)
        listeners[level].bind(os.path.join(folder, level))
        listeners[level].listen(64)
    Path(folder, "ready").touch()
    sys.path.remove(str(Path(__file__).parent))
    call = _wait_for_levels(listeners)
    if call is not None:
        _become(call)


def _wait_for_levels(listeners: dict[str, socket.socket]) -> Call | None:
    """Fork the server of a level with its first call. Return the call to run in a forked child, else None."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the servers of levels are reaped automatically
    while listeners:
        ready, _, _ = select.select([0, *listeners.values()], [], [])
        if 0 in ready:
            return None
        for level in [level for level, listener in listeners.items() if listener in ready]:
            _import(COMMAND_LINE)
            if os.fork() == 0:
                for other in set(listeners) - {level}:
                    listeners[other].close()
                return _serve(listeners[level], level)
            listeners.pop(level).close()
    return None


class Call:
    """A call of the program, as a client sent it."""

    def __init__(self, connection: socket.socket) -> None:
        data, self.descriptors, _, _ = socket.recv_fds(connection, 1 << 16, 3)
        while data and not data.endswith(b"\n"):
            data += connection.recv(1 << 16)
        self.request: dict[str, Any] = json.loads(data or "{}")


def _serve(listener: socket.socket, level: str) -> Call | None:
    """Fork a child for each call. Return the call in the child, and None if standard input ends."""
    _import(LEVELS[level])
    gc.collect()
    gc.freeze()
    late = LATE + LATE_OF_HUB if level == "hub" else LATE
    woken, wake = socket.socketpair()
    for end in (woken, wake):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno())
    running: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([0, listener, woken], [], [])
        if 0 in ready:
            return None
        if woken in ready:
            woken.recv(1 << 10)
            while running:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                _send(running[pid], {"status": status})
                running.pop(pid).close()
        if listener in ready:
            connection, _ = listener.accept()
            call = Call(connection)
            if not call.request:
                connection.close()
                continue
            reason = _difference(call.request["env"], late)
            pid = 0 if reason else os.fork()
            if not reason and pid == 0:
                signal.set_wakeup_fd(-1)
                for inherited in (listener, woken, wake, connection, *running.values()):
                    inherited.close()
                return call
            for descriptor in call.descriptors:
                os.close(descriptor)
            _send(connection, {"refused": reason} if reason else {"pid": pid})
            if reason:
                connection.close()
            else:
                running[pid] = connection


def _import(names: Sequence[str]) -> None:
    for name in names:
        with contextlib.suppress(ImportError):  # an optional library that is not installed
            importlib.import_module(name)


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the client has closed the connection
        connection.sendall(json.dumps(message).encode() + b"\n")


def _difference(environment: Mapping[str, str], late: tuple[str, ...]) -> str:
    """Return the name of a variable that differs and that libraries may have read already; "" if there is none."""
    names = environment.keys() | START.keys()
    different = (name for name in sorted(names) if environment.get(name) != START.get(name))
    return next((name for name in different if not name.startswith(late)), "")


def _become(call: Call) -> NoReturn:
    """Run the program with the descriptors, folder, environment and arguments of the call."""
    for number, descriptor in enumerate(call.descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(call.request["cwd"])
    set_by_imports = {name: value for name, value in os.environ.items() if name not in START}
    os.environ.clear()
    os.environ.update(set_by_imports | call.request["env"])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path.insert(0, os.getcwd())  # as with python -m
    sys.argv = [str(ROOT / "lbr_cli" / "__main__.py"), *call.request["arguments"]]
    from lbr_cli.__main__ import main as run

    try:
        run()
    except SystemExit as ending:
        if "torch" in sys.modules and isinstance(ending.code, int):
            QUICK_EXIT.code = ending.code
        raise
    raise AssertionError("main returned")


class QuickExit:
    """The last exit handler: ends the process without freeing thousands of modules, which takes half a second."""

    def __init__(self) -> None:
        self.code: int | None = None  # the exit code of a program; None for a server, which exits normally
        atexit.register(self)

    def __call__(self) -> None:
        if self.code is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self.code)


QUICK_EXIT = QuickExit()  # handlers run in reverse order, and libraries register theirs later


# ---------------------------------------------------------------- the clients


class Refused(Exception):
    """The server cannot run this call as a fresh process would."""


class Server:
    """A running server. Its folder is the address for other processes."""

    def __init__(self) -> None:
        # the path of a socket has 107 bytes at most
        self.folder = tempfile.mkdtemp(prefix="lbr-tests-", dir="/tmp" if len(tempfile.gettempdir()) > 60 else None)
        environment = program_environment()
        # pipes, as programs under test have: Python's standard streams differ for files and terminals
        self._process = subprocess.Popen(
            [sys.executable, __file__, self.folder],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        while not os.path.exists(os.path.join(self.folder, "ready")):
            if self._process.poll() is not None:
                raise RuntimeError(self._process.communicate()[1].decode())
            time.sleep(0.01)

    def warm(self, level: str) -> None:
        """Start to import the modules of a level before the first call."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(os.path.join(self.folder, level))

    def close(self) -> None:
        """End the server, and print what it reported."""
        _, err = self._process.communicate()  # closing its standard input ends it
        sys.stderr.write(err.decode())
        shutil.rmtree(self.folder)


def program_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a program under test. It turns the score cache off; tests of the cache turn it on."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(DROPPED)}
    return environment | {"PYTHONPATH": str(ROOT), "LBR_CACHE": "0"} | (more or {})


class Forked:
    """A program that a server runs, with the interface of `subprocess.Popen` and pipes for its standard streams."""

    stdin: IO[bytes]
    stdout: IO[bytes]
    stderr: IO[bytes]

    def __init__(self, folder: str, level: str, arguments: Sequence[str], cwd: str, env: Mapping[str, str]) -> None:
        own_ends, child_ends = [], []
        for reads in (True, False, False):
            reader, writer = os.pipe()
            own_ends.append(writer if reads else reader)
            child_ends.append(reader if reads else writer)
        self.stdin, self.stdout, self.stderr = (
            os.fdopen(descriptor, mode) for descriptor, mode in zip(own_ends, ("wb", "rb", "rb"), strict=True)
        )
        try:
            self._begin(folder, level, arguments, cwd, env, child_ends)
        except Refused:
            for stream in (self.stdin, self.stdout, self.stderr):
                stream.close()
            raise
        finally:
            for descriptor in child_ends:
                os.close(descriptor)

    def _begin(
        self,
        folder: str,
        level: str,
        arguments: Sequence[str],
        cwd: str,
        env: Mapping[str, str],
        descriptors: Sequence[int],
    ) -> None:
        self.args = ["lbr", *arguments]
        self.returncode: int | None = None
        self._received = b""
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(os.path.join(folder, level))
        request = {"arguments": arguments, "cwd": cwd, "env": dict(env)}
        message = json.dumps(request).encode() + b"\n"
        sent = socket.send_fds(self._connection, [message], descriptors)
        if sent < len(message):
            self._connection.sendall(message[sent:])
        answer = self._receive(None)
        if "refused" in answer:
            self._connection.close()
            raise Refused(answer["refused"])
        self.pid: int = answer["pid"]

    def _receive(self, timeout: float | None) -> dict[str, Any]:
        self._connection.settimeout(timeout)
        while b"\n" not in self._received:
            chunk = self._connection.recv(4096)
            if not chunk:
                raise RuntimeError("the fork server has ended")
            self._received += chunk
        message, _, self._received = self._received.partition(b"\n")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            try:
                status = self._receive(timeout)["status"]
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            self.returncode = os.waitstatus_to_exitcode(status)
            self._connection.close()
        return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, input: bytes = b"", timeout: float | None = None) -> tuple[bytes, bytes]:  # noqa: A002
        """Write the input, read both outputs to their end and wait. A program that takes longer is killed."""
        read: dict[str, bytes] = {"stdout": b"", "stderr": b""}

        def drain(name: str) -> None:
            with getattr(self, name) as stream:
                read[name] = stream.read()

        def feed() -> None:
            with contextlib.suppress(BrokenPipeError), self.stdin:
                self.stdin.write(input)

        threads = [threading.Thread(target=drain, args=(name,), daemon=True) for name in read]
        threads.append(threading.Thread(target=feed, daemon=True))
        for thread in threads:
            thread.start()
        try:
            self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        for thread in threads:
            thread.join()
        return read["stdout"], read["stderr"]


def level_of(arguments: Sequence[str], more: Mapping[str, str]) -> str | None:
    """Return the level with the modules that a call imports; None for a call that needs a fresh process."""
    if "ray" in arguments or "vllm" in arguments:  # they start processes of their own, which import the main module
        return None
    if any(name.startswith(LATE_OF_HUB) for name in more):
        return "hub"
    command = arguments[0] if arguments else ""
    if command in ("evaluate", "report"):
        return "evaluation"
    if command == "doctor" or (command == "rerank" and not {"overlap", "rerank-api", "--help", "-h"} & set(arguments)):
        return "local"
    return "plain"


class Attached(Forked):
    """A program that a server runs with the standard streams of this process."""

    def __init__(self, folder: str, level: str, arguments: Sequence[str]) -> None:
        self._begin(folder, level, arguments, os.getcwd(), dict(os.environ), (0, 1, 2))


def run_attached(folder: str, *arguments: str) -> NoReturn:
    """Run `lbr` as a script of the shell would, forked if that makes no difference, and end with its exit code."""
    level = level_of(arguments, {})
    with contextlib.suppress(Refused):
        if level is not None:
            sys.exit(Attached(folder, level, arguments).wait())
    os.execv(sys.executable, [sys.executable, "-m", "lbr_cli", *arguments])


if __name__ == "__main__":
    if sys.argv[1] == "run":
        run_attached(*sys.argv[2:])
    main(sys.argv[1])
