"""Several local engines, on this machine or in a cluster: Ray actors, which are restarted if they die.

A worker reads the model's files on its own node, at the same path. A node with other files, or on which the engine
would compute in another way, ends the job before it begins. Scores are those of the local engine, up to the effect of
other batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from lbr_cli import __version__
from lbr_cli.core import Engine
from lbr_cli.engines import ComputeSpec, Settings
from lbr_cli.engines.ray.cluster import connect
from lbr_cli.engines.workers import Chunk, Outcome, WorkerEngine, answer_chunk
from lbr_cli.errors import LbrError, MissingError, RunError, UsageError, first_line
from lbr_cli.models import LocalModel
from lbr_cli.models.digests import file_digests, fingerprint
from lbr_cli.wording import counted

if TYPE_CHECKING:
    from lbr_cli.engines.local import PreparedLocal

RESTARTS = 3  # of one worker, and of one chunk
START_SECONDS = 600.0  # a worker has to import torch, and to read all files of a model


@dataclass(frozen=True, slots=True)
class Deployment:
    """The version of lbr and the fingerprint of the model's files that a node must have."""

    version: str
    files: str


class Worker:
    """A local engine in a process of its own, loaded when it is first needed."""

    def __init__(self, model: LocalModel, settings: Settings, expected: Deployment) -> None:
        self._model = model
        self._settings = settings
        self._expected = expected
        self._engine: Engine | None = None

    def spec(self) -> ComputeSpec:
        """Return how the worker computes. MissingError for another version of lbr, or other files of the model."""
        return self._prepared().spec

    def check(self, requests: Chunk) -> None:
        """Raise RequestError for a request that cannot be answered."""
        self._loaded().check(requests)

    def description(self) -> str:
        return self._loaded().description

    def answer(self, requests: Chunk, spec: ComputeSpec) -> Outcome:
        """Answer a chunk. RunError if this worker would compute in another way than `spec`, which is not dated."""
        if self._engine is None and replace(self.spec(), dated=False) != spec:
            raise RunError(f"node {_node()}: computes in another way than the worker that was lost")
        return answer_chunk(self._loaded(), requests)

    def _loaded(self) -> Engine:
        if self._engine is None:
            self._engine = self._prepared().load()
        return self._engine

    def _prepared(self) -> PreparedLocal:
        path = self._model.path
        if self._expected.version != __version__:
            raise MissingError(f"node {_node()}: has lbr {__version__}, and the job has lbr {self._expected.version}")
        if not path.exists():
            hint = "copy the model to the node, or share its folder"
            raise MissingError(f"node {_node()}: {path}: not found", hint=hint)
        if fingerprint(file_digests(self._model)) != self._expected.files:
            raise MissingError(f"node {_node()}: {path}: other files than on the machine that started the job")
        from lbr_cli.engines.local import prepare_device

        return prepare_device(self._model, self._settings)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Workers that agree on how they compute."""

    workers: Sequence[Any]
    spec: ComputeSpec
    warnings: ClassVar[Sequence[str]] = ()

    def load(self, pairs: int = 0) -> Engine:
        """Let each worker load its weights."""
        descriptions = _get([worker.description.remote() for worker in self.workers])
        spec = replace(self.spec, dated=False)
        actors = [Actor(worker, spec) for worker in self.workers]
        return WorkerEngine(actors, f"ray, {counted(len(actors), 'worker')}: {descriptions[0]}")


def prepare(model: LocalModel, settings: Settings) -> Prepared:
    """Start the workers on a cluster, or on this machine.

    Raises MissingError if the cluster has no room for them or a node lacks the model, RunError if the cluster does not
    respond, UsageError for a GPU that no worker reserves.
    """
    pool = settings.workers
    if pool is None:
        raise ValueError("the engine ray needs workers")
    if find_spec("ray") is None:
        raise MissingError("--engine ray: ray is not installed", hint="pip install 'lbr-cli[ray]'")
    device = settings.device
    if "," in device:
        raise UsageError(
            f"--device {device}: a worker of ray computes on one device", hint="--workers sets their number"
        )
    if not pool.gpus:  # a worker sees the GPUs of its node even if it reserves none
        if device.startswith("cuda"):
            raise UsageError(f"--device {device} needs --worker-gpus")
        device = "cpu" if device == "auto" else device
    connect(pool)
    import ray

    base = replace(model.base, folder=model.base.folder.resolve()) if model.base else None
    model = replace(model, folder=model.folder.resolve(), base=base)  # a worker has another working directory
    options = {"num_cpus": pool.cpus, "num_gpus": pool.gpus, "max_restarts": RESTARTS, "max_task_retries": RESTARTS}
    worker_settings = replace(settings, device=device, workers=None, threads=pool.cpus)
    expected = Deployment(__version__, fingerprint(file_digests(model)))
    actor_class: Any = ray.remote(Worker).options(**options)
    workers = [actor_class.remote(model, worker_settings, expected) for _ in range(pool.count)]
    first, *others = _wait_ready([worker.spec.remote() for worker in workers])
    for other in others:
        if other != first:
            specs = f"one on {first.device}, {first.dtype}, another on {other.device}, {other.dtype}"
            raise MissingError(f"the workers compute in different ways: {specs}", hint="set --device and --dtype")
    # the next job may run on other nodes
    return Prepared(workers, replace(first, dated=True))


class Actor:
    """A handle to a worker. `spec` is how the worker has to compute, even after a restart on another node."""

    def __init__(self, actor: Any, spec: ComputeSpec) -> None:
        self._actor = actor
        self._spec = spec

    def check(self, requests: Chunk) -> None:
        _get([self._actor.check.remote(requests)])

    def answer(self, chunk: Chunk) -> Future[Outcome]:
        return _future(self._actor.answer.remote(chunk, self._spec))


def _future(reference: Any) -> Future[Outcome]:
    """Return the future of a remote call, which raises a worker's own errors."""
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
    """Return the first results of workers. MissingError if a worker cannot start, RunError after a timeout."""
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
    """Return the results of remote calls. Ray wraps the exception of a signal handler: it is unwrapped here."""
    import ray

    try:
        values: list[Any] = ray.get(references, timeout=timeout)
    except SystemError as error:
        raise error.__cause__ or error from None
    return values


def _to_lbr_error(error: BaseException) -> BaseException:
    """Return a worker's own error, or a RunError for a lost worker. A bug keeps the worker's traceback."""
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
