"""Several local engines, on this machine or in a cluster: Ray actors, which are restarted if they die.

A worker reads the model's files on its own node, at the same path. A node with other files, or on which the engine
would compute in another way, ends the job before it begins. Scores are those of the local engine, up to the effect of
other batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from lbr_cli import __version__
from lbr_cli.core import Answer, Batch, Embedding, Engine, Request, TokenEmbeddings
from lbr_cli.engines import ComputeSpec, Settings
from lbr_cli.engines.in_flight import in_flight
from lbr_cli.engines.prompts import distinct_prompts, prefix_keys
from lbr_cli.engines.ray.cluster import connect
from lbr_cli.errors import LbrError, MissingError, RequestError, RunError, UsageError, first_line
from lbr_cli.models import LocalModel
from lbr_cli.models.digests import file_digests, fingerprint
from lbr_cli.wording import counted

if TYPE_CHECKING:
    from lbr_cli.engines.local import PreparedLocal

CHUNK_SIZE = 64  # requests that are sent to a worker at once
QUEUED = 2  # chunks for each worker: one that it computes, one that waits
CHECK_SIZE = 4096  # requests that a worker checks at once
RESTARTS = 3  # of one worker, and of one chunk
START_SECONDS = 600.0  # a worker has to import torch, and to read all files of a model

Chunk = Sequence[Request]


@dataclass(frozen=True, slots=True)
class Deployment:
    """The version of lbr and the fingerprint of the model's files that a node must have."""

    version: str
    files: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a chunk: the answers, up to the first request that could not be answered."""

    answers: list[tuple[Request, Answer]]
    tokens: int
    failure: RequestError | None


class Worker:
    """A local engine in a process of its own, loaded when it is first needed."""

    def __init__(self, model: LocalModel, settings: Settings, expected: Deployment) -> None:
        self._model = model
        self._settings = settings
        self._expected = expected
        self._engine: Engine | None = None

    def spec(self) -> ComputeSpec:
        """Return how it computes. MissingError for another version of lbr, or other files of the model."""
        return self._prepared().spec

    def check(self, requests: Chunk) -> None:
        """Raise RequestError for a request that no worker could answer."""
        self._loaded().check(requests)

    def description(self) -> str:
        return self._loaded().description

    def answer(self, requests: Chunk, spec: ComputeSpec) -> Outcome:
        """Answer a chunk. RunError if this worker would compute in another way than `spec`."""
        if self._engine is None and self.spec() != spec:
            raise RunError(f"node {_node()}: computes in another way than the worker that was lost")
        answers: list[tuple[Request, Answer]] = []
        tokens = 0
        failure = None
        try:
            for batch in self._loaded().answer([requests]):
                answers += batch.answers
                tokens += batch.tokens
        except RequestError as error:
            failure = error
        return Outcome(answers, tokens, failure)

    def _loaded(self) -> Engine:
        if self._engine is None:
            self._engine = self._prepared().load()
        return self._engine

    def _prepared(self) -> PreparedLocal:
        path = self._model.path
        if self._expected.version != __version__:
            raise MissingError(f"node {_node()}: has lbr {__version__}, and the job is of lbr {self._expected.version}")
        if not path.exists():
            hint = "copy the model to the node, or share its folder"
            raise MissingError(f"node {_node()}: {path}: not found", hint=hint)
        if fingerprint(file_digests(self._model)) != self._expected.files:
            raise MissingError(f"node {_node()}: {path} holds other files than where the job was started")
        from lbr_cli.engines.local import prepare as prepare_local

        return prepare_local(self._model, self._settings)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Workers that agree on how they compute."""

    workers: Sequence[Any]
    spec: ComputeSpec
    warnings: ClassVar[Sequence[str]] = ()

    def load(self, pairs: int = 0) -> Engine:
        """Let each worker load its weights."""
        descriptions = _get([worker.description.remote() for worker in self.workers])
        return Cluster(self.workers, replace(self.spec, dated=False), descriptions[0])


def prepare(model: LocalModel, settings: Settings) -> Prepared:
    """Start the workers on a cluster, or on this machine.

    Raises MissingError if the cluster has no room for them or a node lacks the model, RunError if the cluster does not
    respond, UsageError for a GPU that no worker reserves.
    """
    wanted = settings.workers
    if wanted is None:
        raise ValueError("a cluster needs workers")
    if find_spec("ray") is None:
        raise MissingError("--engine ray: ray is not installed", hint="pip install 'lbr-cli[ray]'")
    device = settings.device
    if not wanted.gpus:  # a worker sees the GPUs of its node even if it reserves none
        if device.startswith("cuda"):
            raise UsageError(f"--device {device} needs --worker-gpus")
        device = "cpu" if device == "auto" else device
    connect(wanted)
    import ray

    base = replace(model.base, folder=model.base.folder.resolve()) if model.base else None
    model = replace(model, folder=model.folder.resolve(), base=base)  # a worker has another working directory
    options = {"num_cpus": wanted.cpus, "num_gpus": wanted.gpus, "max_restarts": RESTARTS, "max_task_retries": RESTARTS}
    of_worker = replace(settings, device=device, workers=None, threads=wanted.cpus)
    expected = Deployment(__version__, fingerprint(file_digests(model)))
    kind: Any = ray.remote(Worker).options(**options)
    workers = [kind.remote(model, of_worker, expected) for _ in range(wanted.count)]
    first, *others = _wait_ready([worker.spec.remote() for worker in workers])
    for other in others:
        if other != first:
            ways = f"{first.device}, {first.dtype}, another on {other.device}, {other.dtype}"
            raise MissingError(f"one worker computes on {ways}", hint="set --device and --dtype")
    # the next job may run on other nodes
    return Prepared(workers, replace(first, dated=True))


class Cluster:
    """Answers all requests that the local engine answers."""

    def __init__(self, workers: Sequence[Any], spec: ComputeSpec, description: str) -> None:
        self.description = f"ray, {counted(len(workers), 'worker')}: {description}"
        self.window = CHUNK_SIZE * QUEUED * len(workers)
        self._workers = workers
        self._spec = spec

    def check(self, requests: Iterable[Request]) -> None:
        """Let a worker, which has the tokenizer, check one request of each kind, without its document."""
        vectors = (Embedding, TokenEmbeddings)  # of any text
        distinct = (request for request in distinct_prompts(requests) if not isinstance(request, vectors))
        for first in distinct:
            some = [first, *islice(distinct, CHECK_SIZE - 1)]
            kinds: dict[Request, Request] = {replace(request, document=""): request for request in some}
            try:
                _get([self._workers[0].check.remote(list(kinds))])
            except RequestError as error:
                raise type(error)(str(error), kinds[error.request], hint=error.hint) from error

    def answer(self, windows: Iterable[Sequence[Request]]) -> Iterator[Batch]:
        """Send chunks to the workers, each to the one with the fewest; after a failure no more."""
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
            worker, futures = min(zip(self._workers, busy, strict=True), key=lambda one: len(one[1]))
            future = _future(worker.answer.remote(chunk, self._spec))
            futures.add(future)
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
    """The future of a remote call, which raises a worker's own errors."""
    translated: Future[Outcome] = Future()

    def done(future: Future[Any]) -> None:
        error = future.exception()
        if error is None:
            translated.set_result(future.result())
        else:
            translated.set_exception(_to_lbr_error(error))

    reference.future().add_done_callback(done)
    return translated


def _wait_ready(references: Sequence[Any]) -> list[Any]:
    """The first results of workers. MissingError if one cannot start, RunError if the cluster has no room for it."""
    import ray

    try:
        return _values(references, START_SECONDS)
    except ray.exceptions.GetTimeoutError:
        message = f"timeout: the cluster did not start the workers within {START_SECONDS:.0f} s"
        raise RunError(message, hint="ray status shows what uses the cluster") from None
    except ray.exceptions.RayError as error:
        translated = _to_lbr_error(error)
        if isinstance(translated, LbrError) and not isinstance(error, ray.exceptions.RayActorError):
            raise translated from None
        last = str(error).strip().splitlines()[-1]
        raise MissingError(f"a worker cannot start: {last}", hint="install this version of lbr on each node") from None


def _get(references: Sequence[Any]) -> list[Any]:
    import ray

    try:
        return _values(references)
    except ray.exceptions.RayError as error:
        raise _to_lbr_error(error) from None


def _values(references: Sequence[Any], timeout: float | None = None) -> list[Any]:
    """Wait for remote calls. Ray's compiled code wraps what a signal handler raises: it is raised as it was."""
    import ray

    try:
        values: list[Any] = ray.get(references, timeout=timeout)
    except SystemError as error:
        raise error.__cause__ or error from None
    return values


def _to_lbr_error(error: BaseException) -> BaseException:
    """A worker's own error, or a RunError for a lost worker. A bug keeps the worker's traceback."""
    import ray

    cause = getattr(error, "cause", None)
    if isinstance(cause, LbrError):
        return cause
    if isinstance(error, ray.exceptions.RayError) and not isinstance(error, ray.exceptions.RayTaskError):
        return RunError(f"a worker of ray was lost and could not be replaced: {first_line(error)}")
    return error


def _node() -> str:
    import ray

    return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
