"""Several local engines, on this machine or in a cluster: Ray actors that each hold one, and are replaced if they die.

A worker is told where the model's files are and looks there itself: a node that has not the same files, or would
compute in another way, ends the job before it begins. Scores are those of the local engine, up to what other batches
move.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, ClassVar
from urllib.parse import urlsplit

from lbr_cli import __version__
from lbr_cli.core import Answer, Answered, Engine, Request
from lbr_cli.engines import Settings, Terms, Workers, prepare_engine
from lbr_cli.engines.announced import look_over
from lbr_cli.engines.window import Chunk, Window
from lbr_cli.errors import LbrError, MissingError, RunError
from lbr_cli.models import Model
from lbr_cli.models.contents import contents, fingerprint

AT_ONCE = 64  # requests that are sent to a worker together, or the rest of their query
AHEAD = 2  # chunks for each worker: one at work, one that waits
RESTARTS = 3  # of one worker, and of one chunk
PROBE_SECONDS = 5.0


class Worker:
    """What runs in another process: a local engine, which is loaded with the first chunk."""

    def __init__(self, model: Model, settings: Settings) -> None:
        self._model = model
        self._settings = settings
        self._engine: Engine | None = None

    def terms(self, version: str, files: str) -> Terms:
        """How it computes. MissingError where this is another lbr, or the model is not there as it should be."""
        if version != __version__:
            raise MissingError(f"node {_node()}: has lbr {__version__}, and the job is of lbr {version}")
        place = self._model.place / self._model.gguf
        if not place.exists():
            raise MissingError(f"node {_node()}: {place} is not there", hint="put the model there, or share its folder")
        if fingerprint(contents(self._model)) != files:
            raise MissingError(f"node {_node()}: {place} holds other files than where the job was started")
        terms = prepare_engine("local", self._model, self._settings).terms
        if terms is None:
            raise TypeError("the local engine has terms")
        return terms

    def setting(self) -> str:
        return self._loaded().setting

    def answers(self, requests: Sequence[Request]) -> list[Answer]:
        """In the order of the requests."""
        engine = self._loaded()
        found: dict[Request, Answer] = {}
        for batch in engine.answer(requests):
            found.update(batch)
        return [found[request] for request in requests]

    def _loaded(self) -> Engine:
        if self._engine is None:
            self._engine = prepare_engine("local", self._model, self._settings).load()
        return self._engine


@dataclass(frozen=True, slots=True)
class Prepared:
    """Workers that agree on how they compute."""

    workers: Sequence[Any]
    terms: Terms
    warnings: ClassVar[Sequence[str]] = ()

    def load(self) -> Engine:
        settings = _got([worker.setting.remote() for worker in self.workers])
        return Cluster(self.workers, settings[0])


def prepare(model: Model | None, settings: Settings) -> Prepared:
    """Start the workers, or join a cluster and start them there.

    Raises MissingError for a cluster that has no room for them, or a node that lacks the model, RunError for a cluster
    that does not answer.
    """
    if model is None or settings.workers is None:
        raise ValueError("a cluster needs a model and workers")
    if find_spec("ray") is None:
        raise MissingError("--engine ray: the package ray is not here", hint="pip install 'lbr-cli[ray]'")
    wanted = settings.workers
    _join(wanted)
    import ray

    # absolute, as a worker stands in another folder
    model = replace(model, folder=model.place.resolve())
    options = {"num_cpus": wanted.cpus, "num_gpus": wanted.gpus, "max_restarts": RESTARTS, "max_task_retries": RESTARTS}
    alone = replace(settings, workers=None, threads=wanted.cpus)
    kind: Any = ray.remote(Worker).options(**options)
    workers = [kind.remote(model, alone) for _ in range(wanted.count)]
    files = fingerprint(contents(model))
    terms = _got([worker.terms.remote(__version__, files) for worker in workers])
    for other in terms[1:]:
        if other != terms[0]:
            ways = f"{terms[0].device}, {terms[0].dtype}, another on {other.device}, {other.dtype}"
            raise MissingError(f"one worker computes on {ways}", hint="say it with --device and --dtype")
    # which nodes there are may be something else the next time
    return Prepared(workers, replace(terms[0], dated=True))


class Cluster:
    """Answers what the local engine of each worker answers."""

    def __init__(self, workers: Sequence[Any], setting: str) -> None:
        count = "1 worker" if len(workers) == 1 else f"{len(workers)} workers"
        self.setting = f"ray, {count}: {setting}"
        self._workers = workers
        self._busy = [0] * len(workers)  # chunks
        self._window = Window(self._started, AT_ONCE, flight=AHEAD * len(workers))

    def expect(self, requests: Iterable[Request]) -> int:
        announced = look_over(requests, lambda request, place: None)
        return self._window.expect(requests, document_first=announced.document_first)

    def answer(self, requests: Sequence[Request]) -> Iterator[Answered]:
        return self._window.answer(requests)

    def _started(self, chunk: Chunk) -> Future[Sequence[Answer]]:
        worker = self._busy.index(min(self._busy))
        self._busy[worker] += 1
        told: Future[Sequence[Answer]] = Future()

        def done(future: Future[Any]) -> None:
            self._busy[worker] -= 1
            error = future.exception()
            if error is None:
                told.set_result(future.result())
            else:
                told.set_exception(_translated(error))

        self._workers[worker].answers.remote(chunk).future().add_done_callback(done)
        return told


def _join(wanted: Workers) -> None:
    """Join the cluster at an address, or make one of this machine that lasts as long as this process."""
    import logging

    import ray

    if wanted.address:
        _check_reachable(wanted.address)
    own: dict[str, Any] = {} if wanted.address else {"num_cpus": wanted.count * wanted.cpus, "include_dashboard": False}
    if not wanted.address and wanted.gpus:
        own["num_gpus"] = wanted.count * wanted.gpus
    try:
        if not ray.is_initialized():
            ray.init(address=wanted.address or "local", logging_level=logging.ERROR, log_to_driver=False, **own)
    except (ConnectionError, RuntimeError, OSError, ValueError) as error:
        place = f"--ray-address {wanted.address}" if wanted.address else "a cluster of this machine"
        raise RunError(f"{place}: {_first_line(error)}") from error
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    for what, each in (("CPU", wanted.cpus), ("GPU", wanted.gpus)):
        there = resources.get(what, 0)
        if each * wanted.count > there:
            message = f"{wanted.count} workers of {each:g} {what}s each need more than the {there:g} of the cluster"
            raise MissingError(message, hint=f"fewer --workers, or less with --worker-{what.lower()}s")


def _check_reachable(address: str) -> None:
    """RunError where nothing listens at an address: ray itself goes on trying for minutes."""
    place = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        if place.hostname and place.port:
            socket.create_connection((place.hostname, place.port), timeout=PROBE_SECONDS).close()
    except (OSError, ValueError) as error:
        raise RunError(f"--ray-address {address}: cannot be reached: {error}") from error


def _got(references: Sequence[Any]) -> list[Any]:
    import ray

    try:
        got: list[Any] = ray.get(references)
    except ray.exceptions.RayError as error:
        raise _translated(error) from None
    return got


def _translated(error: BaseException) -> BaseException:
    """A worker's own error, or that of a worker that is no more."""
    import ray

    cause = getattr(error, "cause", None)
    if isinstance(cause, LbrError):
        return cause
    if isinstance(error, ray.exceptions.RayTaskError):
        return error  # a bug, told with the worker's own traceback
    if isinstance(error, ray.exceptions.RayError):
        return RunError(f"a worker of ray was lost and could not be replaced: {_first_line(error)}")
    return error


def _node() -> str:
    import ray

    return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
