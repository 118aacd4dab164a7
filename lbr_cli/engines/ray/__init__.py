"""Several local engines, on this machine or in a cluster: Ray actors that each hold one, and are replaced if they die.

A worker looks for the model's files itself, at the same path: a node that has other files, or would compute in another
way, ends the job before it begins. Scores are those of the local engine, up to the effect of other batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, ClassVar

from lbr_cli import __version__, engines
from lbr_cli.core import Answer, Batch, Embedding, Engine, Request
from lbr_cli.engines import ComputeSpec, Settings, prepare_engine
from lbr_cli.engines.in_flight import in_flight
from lbr_cli.engines.prompts import distinct_prompts, prefix_keys
from lbr_cli.engines.ray.cluster import connect
from lbr_cli.errors import LbrError, MissingError, RequestError, RunError, UsageError, first_line
from lbr_cli.models import LocalModel
from lbr_cli.models.digests import file_digests, fingerprint
from lbr_cli.wording import counted

CHUNK_SIZE = 64  # requests that are sent to a worker at once
QUEUED = 2  # chunks for each worker: one that it computes, one that waits
CHECK_SIZE = 4096  # requests that a worker checks at once
RESTARTS = 3  # of one worker, and of one chunk
START_SECONDS = 600.0  # a worker has to import torch, and to read all files of a model

Chunk = Sequence[Request]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a worker has to find on its node, also if it is started again on another one: lbr, and the model's files."""

    version: str
    files: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a worker returns for a chunk: the answers, up to the first request that it could not answer."""

    answers: list[tuple[Request, Answer]]
    tokens: int
    failure: RequestError | None


class Worker:
    """What runs in another process: a local engine, which is loaded with the first chunk."""

    def __init__(self, model: LocalModel, settings: Settings, expected: Expected) -> None:
        self._model = model
        self._settings = settings
        self._expected = expected
        self._engine: Engine | None = None

    def spec(self) -> ComputeSpec:
        """Return how it computes. MissingError for another version of lbr, or other files of the model."""
        spec = self._prepared().spec
        if spec is None:
            raise TypeError("the local engine has a spec")
        return spec

    def check(self, requests: Chunk) -> None:
        """Raise RequestError for what no worker could answer."""
        self._loaded().check(requests)

    def description(self) -> str:
        return self._loaded().description

    def answer(self, requests: Chunk, spec: ComputeSpec) -> Outcome:
        """Answer a chunk. RunError if this worker would compute in another way than `spec` says."""
        if self._engine is None and self.spec() != spec:
            raise RunError(f"node {_node()}: computes in another way than the worker that was lost")
        answers: list[tuple[Request, Answer]] = []
        tokens = 0
        try:
            for batch in self._loaded().answer([requests]):
                answers += batch.answers
                tokens += batch.tokens
        except RequestError as error:
            return Outcome(answers, tokens, error)
        return Outcome(answers, tokens, None)

    def _loaded(self) -> Engine:
        if self._engine is None:
            self._engine = self._prepared().load(0)
        return self._engine

    def _prepared(self) -> engines.Prepared:
        if self._expected.version != __version__:
            raise MissingError(f"node {_node()}: has lbr {__version__}, and the job is of lbr {self._expected.version}")
        place = self._model.path
        if not place.exists():
            raise MissingError(f"node {_node()}: {place} is not there", hint="put the model there, or share its folder")
        if fingerprint(file_digests(self._model)) != self._expected.files:
            raise MissingError(f"node {_node()}: {place} holds other files than where the job was started")
        return prepare_engine("local", self._model, self._settings)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Workers that agree on how they compute."""

    workers: Sequence[Any]
    spec: ComputeSpec
    warnings: ClassVar[Sequence[str]] = ()

    def load(self, pairs: int = 0) -> Engine:
        """Have each worker load its weights."""
        descriptions = _got([worker.description.remote() for worker in self.workers])
        return Cluster(self.workers, replace(self.spec, dated=False), descriptions[0])


def prepare(model: LocalModel, settings: Settings) -> Prepared:
    """Start the workers, or join a cluster and start them there.

    Raises MissingError for a cluster that has no room for them, or a node that lacks the model, RunError for a cluster
    that does not answer.
    """
    if settings.workers is None:
        raise ValueError("a cluster needs workers")
    if find_spec("ray") is None:
        raise MissingError("--engine ray: ray is not installed", hint="pip install 'lbr-cli[ray]'")
    wanted = settings.workers
    device = settings.device
    if not wanted.gpus:  # ray gives them none, and does not hide those that are there
        if device.startswith("cuda"):
            raise UsageError(f"--device {device} needs --worker-gpus")
        device = "cpu" if device == "auto" else device
    connect(wanted)
    import ray

    # absolute, as a worker stands in another folder
    model = replace(model, folder=model.folder.resolve())
    options = {"num_cpus": wanted.cpus, "num_gpus": wanted.gpus, "max_restarts": RESTARTS, "max_task_retries": RESTARTS}
    alone = replace(settings, device=device, workers=None, threads=wanted.cpus)
    expected = Expected(__version__, fingerprint(file_digests(model)))
    kind: Any = ray.remote(Worker).options(**options)
    workers = [kind.remote(model, alone, expected) for _ in range(wanted.count)]
    specs = _started([worker.spec.remote() for worker in workers])
    for other in specs[1:]:
        if other != specs[0]:
            ways = f"{specs[0].device}, {specs[0].dtype}, another on {other.device}, {other.dtype}"
            raise MissingError(f"one worker computes on {ways}", hint="say it with --device and --dtype")
    # which nodes there are may be something else the next time
    return Prepared(workers, replace(specs[0], dated=True))


class Cluster:
    """Answers requests of any kind that the local engine answers."""

    def __init__(self, workers: Sequence[Any], spec: ComputeSpec, description: str) -> None:
        self.description = f"ray, {counted(len(workers), 'worker')}: {description}"
        self.window = CHUNK_SIZE * QUEUED * len(workers)
        self._workers = workers
        self._spec = spec

    def check(self, requests: Iterable[Request]) -> None:
        """Let a worker check one request of each kind: it has the tokenizer."""
        kinds: dict[Request, Request] = {}  # without their documents, which may be long -> as they were
        for request in distinct_prompts(requests):
            if not isinstance(request, Embedding):
                kinds[replace(request, document="")] = request
            if len(kinds) == CHECK_SIZE:
                self._check(kinds)
                kinds = {}
        if kinds:
            self._check(kinds)

    def _check(self, kinds: dict[Request, Request]) -> None:
        try:
            _got([self._workers[0].check.remote(list(kinds))])
        except RequestError as error:
            raise type(error)(str(error), kinds[error.request], hint=error.hint) from error

    def answer(self, windows: Iterable[Sequence[Request]]) -> Iterator[Batch]:
        """Send chunks to the workers, each to the one with the least to do."""
        failure: RequestError | None = None

        def chunks() -> Iterator[Chunk]:
            for window in windows:
                for chunk in cut(window, CHUNK_SIZE):
                    if failure:
                        return
                    yield chunk

        busy: list[set[Future[Outcome]]] = [set() for _ in self._workers]

        def start(chunk: Chunk) -> Future[Outcome]:
            for futures in busy:
                futures.difference_update([future for future in futures if future.done()])
            least = min(range(len(busy)), key=lambda worker: len(busy[worker]))
            future = _future(self._workers[least].answer.remote(chunk, self._spec))
            busy[least].add(future)
            return future

        for finished in in_flight(chunks(), start, QUEUED * len(self._workers)):
            for _, outcome in finished:
                failure = failure or outcome.failure
                yield Batch(outcome.answers, outcome.tokens)
        if failure:
            raise failure


def cut(requests: Sequence[Request], size: int) -> Iterator[Chunk]:
    """Cut requests into chunks of at most `size`, which end where prompts begin differently, if that is near."""
    keys = prefix_keys(requests)
    start = 0
    while start < len(requests):
        end = min(start + size, len(requests))
        if end < len(requests):
            ends = range(end, start + (size + 1) // 2 - 1, -1)
            end = next((place for place in ends if keys[place] != keys[place - 1]), end)
        yield requests[start:end]
        start = end


def _future(reference: Any) -> Future[Outcome]:
    """The future of a remote call, with the worker's own errors."""
    translated: Future[Outcome] = Future()

    def done(future: Future[Any]) -> None:
        error = future.exception()
        if error is None:
            translated.set_result(future.result())
        else:
            translated.set_exception(_translated(error))

    reference.future().add_done_callback(done)
    return translated


def _started(references: Sequence[Any]) -> list[Any]:
    """What workers say first. A worker that cannot start is a MissingError, one that is not given room a RunError."""
    import ray

    try:
        return _values(references, START_SECONDS)
    except ray.exceptions.GetTimeoutError:
        message = f"the cluster gave the workers no room within {START_SECONDS:.0f} s"
        raise RunError(message, hint="is it busy? ray status tells") from None
    except ray.exceptions.RayError as error:
        translated = _translated(error)
        if isinstance(translated, LbrError) and not isinstance(error, ray.exceptions.RayActorError):
            raise translated from None
        last = str(error).strip().splitlines()[-1]
        raise MissingError(f"a worker cannot start: {last}", hint="each node needs lbr, as this one has it") from None


def _got(references: Sequence[Any]) -> list[Any]:
    import ray

    try:
        return _values(references)
    except ray.exceptions.RayError as error:
        raise _translated(error) from None


def _values(references: Sequence[Any], timeout: float | None = None) -> list[Any]:
    """Wait for remote calls. Ray's compiled code wraps what a signal handler raises: it is raised as it was."""
    import ray

    try:
        values: list[Any] = ray.get(references, timeout=timeout)
    except SystemError as error:
        raise error.__cause__ or error from None
    return values


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
