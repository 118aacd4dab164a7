"""Who computes, one file or folder each. An engine loads its libraries only when it is prepared itself."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from lbr_cli.core import Answered, Engine, Request
from lbr_cli.models import Model

# name -> the function that prepares it
ENGINES = {
    "local": "lbr_cli.engines.local:prepare",
    "vllm": "lbr_cli.engines.vllm:prepare",
    "openai": "lbr_cli.engines.openai:prepare",
    "ray": "lbr_cli.engines.ray:prepare",
    "overlap": "lbr_cli.engines.overlap:prepare",
}
CONCURRENCY = 32
UNLIMITED = 2**31 - 1  # tokens, of a model that reads texts of any length


@dataclass(frozen=True, slots=True)
class Server:
    """Where an OpenAI-compatible server answers, and how many requests it is given at a time."""

    base_url: str
    concurrency: int = CONCURRENCY


@dataclass(frozen=True, slots=True)
class Workers:
    """Processes of a Ray cluster that each hold a local engine, and what each of them takes of its node.

    `address` None is a cluster of this machine alone, for as long as the job lasts.
    """

    count: int = 1
    cpus: int = 1
    gpus: float = 0.0
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """How to compute. None and "auto" leave the choice to the model and the device."""

    device: str = "auto"
    dtype: str = "auto"
    max_length: int | None = None
    batch_tokens: int | None = None
    threads: int | None = None
    plain: bool = False  # transformers' own attention, text by text: what the fast ways are checked against
    server: Server | None = None
    workers: Workers | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What an engine's choices add to the score of a pair.

    `device` is its kind, `dtype` the precision in words; `prompt` digests what a pair of placeholders is turned into,
    and `dated` says that any of this may be something else a while later. `weights` names them where no file of them is
    at hand: a server, and what it calls the model.
    """

    device: str
    dtype: str
    max_length: int
    prompt: str
    dated: bool = False
    weights: str = ""


class Prepared(Protocol):
    """An engine that knows how it will compute and has not loaded weights.

    `terms` None: its scores are not kept. `warnings` say what its scores lack.
    """

    @property
    def terms(self) -> Terms | None: ...

    @property
    def warnings(self) -> Sequence[str]: ...

    def load(self) -> Engine: ...


class Lazy:
    """An engine that is loaded with the first question."""

    def __init__(self, load: Callable[[], Engine]) -> None:
        self._load = load
        self._engine: Engine | None = None

    @property
    def setting(self) -> str:
        return self._engine.setting if self._engine else "nothing computed"

    def expect(self, requests: Iterable[Request]) -> int:
        return self._loaded().expect(requests)

    def answer(self, requests: Sequence[Request]) -> Iterator[Answered]:
        return self._loaded().answer(requests)

    def _loaded(self) -> Engine:
        if self._engine is None:
            self._engine = self._load()
        return self._engine


def prepare_engine(name: str, model: Model | None, settings: Settings) -> Prepared:
    """The engine of that name, for what the model's family asks; engines without a model take None."""
    module, function = ENGINES[name].split(":")
    prepare: Callable[[Model | None, Settings], Prepared] = getattr(importlib.import_module(module), function)
    return prepare(model, settings)


def load_engine(name: str, model: Model | None, settings: Settings) -> Engine:
    """The same, with its weights and ready to answer."""
    return prepare_engine(name, model, settings).load()
