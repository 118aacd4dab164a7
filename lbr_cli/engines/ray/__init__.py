"""Several local engines, on this machine or in a cluster: Ray actors that each hold one, and are replaced if they die.

A worker is told where the model's files are and looks there itself: a node that has not the same files, or would
compute in another way, ends the job before it begins. Scores are those of the local engine, up to what other batches
move.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, ClassVar

from lbr_cli import __version__, engines
from lbr_cli.core import Answer, Answered, Embedding, Engine, Request
from lbr_cli.engines import Settings, Terms, prepare_engine
from lbr_cli.engines.announced import look_over
from lbr_cli.engines.ray.joining import join
from lbr_cli.engines.window import Chunk, Window
from lbr_cli.errors import LbrError, MissingError, RequestError, RunError, UsageError, first_line
from lbr_cli.models import Model
from lbr_cli.models.contents import contents, fingerprint

AT_ONCE = 64  # requests that are sent to a worker together, or the rest of their query
AHEAD = 2  # chunks for each worker: one at work, one that waits
CHECKED = 4096  # kinds of requests that a worker looks at together
RESTARTS = 3  # of one worker, and of one chunk
START_SECONDS = 600.0  # a worker has to import torch, and to look at all files of a model


@dataclass(frozen=True, slots=True)
class Expected:
    """What a worker has to find where it runs, also when it is started again elsewhere: lbr, and a model's files."""

    version: str
    files: str


class Worker:
    """What runs in another process: a local engine, which is loaded with the first chunk."""

    def __init__(self, model: Model, settings: Settings, expected: Expected) -> None:
        self._model = model
        self._settings = settings
        self._expected = expected
        self._engine: Engine | None = None

    def terms(self) -> Terms:
        """How it computes. MissingError where this is another lbr, or the model is not there as it should be."""
        terms = self._prepared().terms
        if terms is None:
            raise TypeError("the local engine has terms")
        return terms

    def expect(self, requests: Sequence[Request]) -> None:
        """Refuse what no worker could answer."""
        self._loaded().expect(requests)

    def setting(self) -> str:
        return self._loaded().setting

    def answers(self, requests: Sequence[Request], terms: Terms) -> list[Answer]:
        """In the order of the requests. RunError where this would compute otherwise than by `terms`."""
        if self._engine is None and self.terms() != terms:
            raise RunError(f"node {_node()}: computes in another way than the worker that was lost")
        engine = self._loaded()
        found: dict[Request, Answer] = {}
        for batch in engine.answer(requests):
            found.update(batch)
        return [found[request] for request in requests]

    def _loaded(self) -> Engine:
        if self._engine is None:
            self._engine = self._prepared().load()
        return self._engine

    def _prepared(self) -> engines.Prepared:
        if self._expected.version != __version__:
            raise MissingError(f"node {_node()}: has lbr {__version__}, and the job is of lbr {self._expected.version}")
        place = self._model.place / self._model.gguf
        if not place.exists():
            raise MissingError(f"node {_node()}: {place} is not there", hint="put the model there, or share its folder")
        if fingerprint(contents(self._model)) != self._expected.files:
            raise MissingError(f"node {_node()}: {place} holds other files than where the job was started")
        return prepare_engine("local", self._model, self._settings)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Workers that agree on how they compute."""

    workers: Sequence[Any]
    terms: Terms
    warnings: ClassVar[Sequence[str]] = ()

    def load(self) -> Engine:
        settings = _got([worker.setting.remote() for worker in self.workers])
        return Cluster(self.workers, replace(self.terms, dated=False), settings[0])


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
    device = settings.device
    if not wanted.gpus:  # ray gives them none, and does not hide those that are there
        if device.startswith("cuda"):
            raise UsageError(f"--device {device} needs --worker-gpus")
        device = "cpu" if device == "auto" else device
    join(wanted)
    import ray

    # absolute, as a worker stands in another folder
    model = replace(model, folder=model.place.resolve())
    options = {"num_cpus": wanted.cpus, "num_gpus": wanted.gpus, "max_restarts": RESTARTS, "max_task_retries": RESTARTS}
    alone = replace(settings, device=device, workers=None, threads=wanted.cpus)
    expected = Expected(__version__, fingerprint(contents(model)))
    kind: Any = ray.remote(Worker).options(**options)
    workers = [kind.remote(model, alone, expected) for _ in range(wanted.count)]
    terms = _started([worker.terms.remote() for worker in workers])
    for other in terms[1:]:
        if other != terms[0]:
            ways = f"{terms[0].device}, {terms[0].dtype}, another on {other.device}, {other.dtype}"
            raise MissingError(f"one worker computes on {ways}", hint="say it with --device and --dtype")
    # which nodes there are may be something else the next time
    return Prepared(workers, replace(terms[0], dated=True))


class Cluster:
    """Answers what the local engine of each worker answers."""

    def __init__(self, workers: Sequence[Any], terms: Terms, setting: str) -> None:
        count = "1 worker" if len(workers) == 1 else f"{len(workers)} workers"
        self.setting = f"ray, {count}: {setting}"
        self._workers = workers
        self._terms = terms
        self._busy: list[set[Future[Any]]] = [set() for _ in workers]
        self._window = Window(self._begun, AT_ONCE, flight=AHEAD * len(workers))

    def expect(self, requests: Iterable[Request]) -> int:
        """One of each kind of request is tried by a worker, which has the tokenizer."""
        kinds: list[Request] = []
        places: list[int] = []

        def collect(request: Request, place: int) -> None:
            if not isinstance(request, Embedding):
                kinds.append(replace(request, document=""))  # what there is to check lies around it
                places.append(place)
            if len(kinds) == CHECKED:
                check()

        def check() -> None:
            try:
                _got([self._workers[0].expect.remote(kinds)])
            except RequestError as error:
                raise error.at(places[error.place]) from error
            kinds.clear()
            places.clear()

        announced = look_over(requests, collect)
        if kinds:
            check()
        return self._window.expect(requests, document_first=announced.document_first)

    def answer(self, requests: Sequence[Request]) -> Iterator[Answered]:
        return self._window.answer(requests)

    def _begun(self, chunk: Chunk) -> Future[Sequence[Answer]]:
        """Give a chunk to the worker with the least to do."""
        told: Future[Sequence[Answer]] = Future()
        for busy in self._busy:
            busy.difference_update([future for future in busy if future.done()])
        least = min(range(len(self._workers)), key=lambda worker: len(self._busy[worker]))
        self._busy[least].add(told)

        def done(future: Future[Any]) -> None:
            error = future.exception()
            if error is None:
                told.set_result(future.result())
            else:
                told.set_exception(_translated(error))

        self._workers[least].answers.remote(chunk, self._terms).future().add_done_callback(done)
        return told


def _started(references: Sequence[Any]) -> list[Any]:
    """What workers say first. A worker that cannot start is a MissingError, one that is not given room a RunError."""
    import ray

    try:
        got: list[Any] = ray.get(references, timeout=START_SECONDS)
    except ray.exceptions.GetTimeoutError:
        message = f"the cluster gave the workers no room within {START_SECONDS:.0f} s"
        raise RunError(message, hint="is it busy? ray status tells") from None
    except ray.exceptions.RayError as error:
        translated = _translated(error)
        if isinstance(translated, LbrError) and not isinstance(error, ray.exceptions.RayActorError):
            raise translated from None
        last = str(error).strip().splitlines()[-1]
        raise MissingError(f"a worker cannot start: {last}", hint="each node needs lbr, as this one has it") from None
    return got


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
        return RunError(f"a worker of ray was lost and could not be replaced: {first_line(error)}")
    return error


def _node() -> str:
    import ray

    return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
