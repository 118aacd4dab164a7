"""The engines: one module or package each, with a function `prepare`. Libraries are imported when they are used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Any, Protocol

from lbr_cli.core import Engine
from lbr_cli.models import LocalModel, ServedModel


@dataclass(frozen=True, slots=True)
class Registered:
    """An engine of `--engine`: its help text, and the options that it reads.

    An option that no engine lists does not concern computing. An engine without options has no model. The manifest
    records the version of `package`, besides those of the libraries of `local`. If `sends_token_ids`, prompts come from
    `token_prompts.py`. If `scores_pairs`, a server computes the scores of pairs, so that no family applies.
    """

    summary: str
    options: Set[str] = frozenset()
    package: str = ""
    sends_token_ids: bool = False
    scores_pairs: bool = False


FILES = {"revision", "trust_remote_code"}  # options of engines that load the files of a model
WORKERS = {"workers", "worker_cpus", "worker_gpus", "ray_address"}
BATCHES = {"dtype", "max_length", "batch_tokens", *FILES}
SERVER = {"base_url", "concurrency"}
# engines by the name of their module, in which "_" replaces "-"
ENGINES = {
    "local": Registered("transformers on this machine", {"device", "threads"} | BATCHES),
    "vllm": Registered("vLLM in this process", BATCHES, "vllm", sends_token_ids=True),
    "openai": Registered(
        "an OpenAI-compatible server", {"max_length", "tokenizer"} | SERVER, "urllib3", sends_token_ids=True
    ),
    "rerank-api": Registered(
        "a rerank server", {"dialect", "documents_per_request"} | SERVER, "urllib3", scores_pairs=True
    ),
    "ray": Registered("workers of a Ray cluster", {"device"} | WORKERS | BATCHES, "ray"),
    "overlap": Registered("shared words without a model, to test input files"),
}
DIALECTS = ("tei", "jina", "cohere", "voyage")  # forms of requests to rerank servers
ONE_MODEL = {"tei"}  # dialects of servers that have one model, whose name is not in a request
CONCURRENCY = 32
UNLIMITED = 2**31 - 1  # the maximum length, in tokens, of a model without a limit


@dataclass(frozen=True, slots=True)
class Server:
    """A server, and how many requests are in flight at a time.

    `dialect` is "" for an OpenAI-compatible server. If `documents_per_request` is None, the dialect decides.
    """

    base_url: str
    concurrency: int = CONCURRENCY
    dialect: str = ""
    documents_per_request: int | None = None


@dataclass(frozen=True, slots=True)
class Workers:
    """Workers of a Ray cluster, and the CPUs and GPUs of each. If `address` is None, the job starts a cluster here."""

    count: int = 1
    cpus: int = 1
    gpus: float = 0.0
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """How to compute. With None or "auto", the model or the device decides."""

    device: str = "auto"
    dtype: str = "auto"
    max_length: int | None = None
    batch_tokens: int | None = None
    threads: int | None = None
    plain: bool = False  # transformers' own attention, one text at a time: the reference for the fast paths
    server: Server | None = None
    workers: Workers | None = None
    tokenizer: str = ""  # `ComputeSpec.tokenizer` of an earlier run with the same files and versions


@dataclass(frozen=True, slots=True)
class ComputeSpec:
    """The choices of an engine on which a score depends.

    `device` is the type of a device, `dtype` the precision in words, `prompt` a digest of the token ids of some pairs.
    `dated` means that the next run may choose differently, on another day or other nodes. `weights` identifies weights
    without files: a server, and its name of the model. `tokenizer` is "transformers" or "tokenizer.json", see
    `pretrained.py`; "" for an engine without a tokenizer.
    """

    device: str
    dtype: str
    max_length: int
    prompt: str
    dated: bool = False
    weights: str = ""
    tokenizer: str = ""


class Prepared(Protocol):
    """An engine without its weights. `warnings` are for the user; if `spec` is None, its scores are not cached."""

    @property
    def spec(self) -> ComputeSpec | None: ...

    @property
    def warnings(self) -> Sequence[str]: ...

    def load(self, pairs: int = 0) -> Engine:
        """Load the weights, for a job of `pairs` pairs (0 if unknown)."""


def prepare_engine(name: str, model: LocalModel | ServedModel | None, settings: Settings) -> Prepared:
    """Return the engine `name`, prepared for a model of the type that it needs; overlap needs None."""
    module = importlib.import_module(f"lbr_cli.engines.{name.replace('-', '_')}")
    prepare: Callable[[Any, Settings], Prepared] = module.prepare
    return prepare(model, settings)
