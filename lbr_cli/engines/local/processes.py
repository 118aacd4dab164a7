"""The local engine on several devices: one process for each, which loads the model and computes on its device.

A process is started anew by Python (`spawn`), because CUDA does not survive a fork. It writes nothing to standard
output, ignores Ctrl-C, which the main process handles, and ends when the main process ends, however that happens.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
import traceback
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from lbr_cli.core import Engine
from lbr_cli.engines import ComputeSpec, Settings
from lbr_cli.engines.workers import Chunk, Outcome, WorkerEngine, answer_chunk
from lbr_cli.errors import LbrError, RunError, first_line
from lbr_cli.models import LocalModel

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

STDOUT, STDERR = 1, 2


@dataclass(frozen=True, slots=True)
class PreparedProcesses:
    """Processes that are not started yet. Each has the same `spec`."""

    model: LocalModel
    settings: Settings
    devices: Sequence[torch.device]
    spec: ComputeSpec
    warnings: ClassVar[Sequence[str]] = ()

    def load(self, pairs: int = 0) -> Engine:
        """Start the processes, each of which loads the weights, and wait until all are ready.

        Raises the error of a process that cannot load the model, and RunError for one that ends.
        """
        threads = self.settings.threads or max(1, torch.get_num_threads() // len(self.devices))
        share = pairs // len(self.devices)
        processes = [
            DeviceProcess(self.model, replace(self.settings, device=str(device), threads=threads), self.spec, share)
            for device in self.devices
        ]
        descriptions = [process.description() for process in processes]
        names = ", ".join(map(str, self.devices))
        precision = descriptions[0].removeprefix(f"{self.devices[0]}, ")
        return WorkerEngine(processes, f"{len(processes)} processes on {names}: {precision}")


class DeviceProcess:
    """A process with a local engine, and a thread that exchanges calls and results with it, one at a time."""

    def __init__(self, model: LocalModel, settings: Settings, spec: ComputeSpec, pairs: int) -> None:
        self._device = settings.device
        context = get_context("spawn")
        self._connection, child_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(child_end, model, settings, spec, pairs), daemon=True)
        _start_without_interrupts(self._process)
        child_end.close()  # so that the end of the process is the end of the stream
        self._calls: SimpleQueue[tuple[str, Chunk, Future[Any]]] = SimpleQueue()
        threading.Thread(target=self._exchange, daemon=True).start()

    def description(self) -> str:
        """Return the description of the engine, as soon as it is loaded."""
        description: str = self._call("description", []).result()
        return description

    def check(self, requests: Chunk) -> None:
        self._call("check", requests).result()

    def answer(self, chunk: Chunk) -> Future[Outcome]:
        return self._call("answer", chunk)

    def _call(self, name: str, requests: Chunk) -> Future[Any]:
        future: Future[Any] = Future()
        self._calls.put((name, requests, future))
        return future

    def _exchange(self) -> None:
        while True:
            name, requests, future = self._calls.get()
            try:
                self._connection.send((name, requests))
                result, error = self._connection.recv()
            except (EOFError, OSError):
                self._process.join()
                result, error = None, RunError(f"the process for {self._device} has ended{self._exit_reason()}")
            except Exception as failure:  # an error of pickling; without a result, the caller would wait for ever
                result, error = None, failure
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    def _exit_reason(self) -> str:
        code = self._process.exitcode or 0
        if code >= 0:
            return f" with exit code {code}"
        return f" by {signal.Signals(-code).name}" + (": out of memory?" if -code == signal.SIGKILL else "")


def _start_without_interrupts(process: SpawnProcess) -> None:
    """Start a process that ignores Ctrl-C from the beginning, also while it imports: it inherits the blocked signal."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _serve(connection: Connection, model: LocalModel, settings: Settings, spec: ComputeSpec, pairs: int) -> None:
    """Load the engine and answer calls until the main process ends. An error of loading answers the first call."""
    os.dup2(STDERR, STDOUT)  # for the output of libraries
    threading.Thread(target=_end_with_main_process, daemon=True).start()
    engine: Engine | None = None
    while True:
        try:
            name, requests = connection.recv()
        except EOFError:
            return
        result: Outcome | str | None = None
        failure: Exception | None = None
        try:
            engine = engine or _load(model, settings, spec, pairs)
            if name == "answer":
                result = answer_chunk(engine, requests)
            elif name == "check":
                engine.check(requests)
            else:
                result = engine.description
        except LbrError as error:
            failure = error
        except Exception as error:  # a bug, which the main process reports with this traceback
            failure = _picklable(error)
        connection.send((result, failure))


def _load(model: LocalModel, settings: Settings, spec: ComputeSpec, pairs: int) -> Engine:
    from lbr_cli.engines.local import prepare_device

    prepared = prepare_device(model, settings)
    if prepared.spec != spec:
        specs = f"{prepared.spec.device}, {prepared.spec.dtype}, not {spec.device}, {spec.dtype}"
        raise RunError(f"--device {settings.device}: computes in another way than the first device: {specs}")
    return prepared.load(pairs)


def _end_with_main_process() -> None:
    main = parent_process()
    if main is not None:
        wait([main.sentinel])
        os._exit(1)


def _picklable(error: Exception) -> Exception:
    """Return the error, or a RuntimeError if it cannot be pickled, with the traceback as a note."""
    trace = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # pickling may raise anything
        error = RuntimeError(f"{type(error).__name__}: {first_line(error)}")
    error.add_note(trace)
    return error
