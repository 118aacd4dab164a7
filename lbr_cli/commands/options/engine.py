"""Engine options. `ENGINES` lists the options that each engine reads."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from lbr_cli.commands.command import OptionGroup, completion, option, refuse
from lbr_cli.engines import CONCURRENCY, DIALECTS, ENGINES, Server, Settings, Workers
from lbr_cli.errors import UsageError
from lbr_cli.models import ALIASES

COMPUTING = frozenset().union(*(engine.options for engine in ENGINES.values()))  # options that some engine reads

Dtype = Literal["auto", "float32", "bfloat16", "float16", "int8"]
DEVICE = option(
    "DEVICE",
    "cpu, cuda, cuda:1 or mps; several as cuda:0,cuda:1; auto is the best available.",
    "auto",
    env=True,
    autocompletion=completion(("auto", "cpu", "cuda", "mps")),
)
DTYPE = option(
    "DTYPE",
    "auto, float32, bfloat16, float16 or int8 (CPUs); auto is bfloat16 if the device computes in it.",
    "auto",
    env=True,
)
SUMMARIES = "; ".join(f"{name}: {engine.summary}" for name, engine in ENGINES.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceOptions(OptionGroup):
    """The device and the precision of the local engine."""

    heading: ClassVar[str] = "Engine"

    device: str = DEVICE
    dtype: Dtype = DTYPE


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions(OptionGroup):
    """The engine, and the resources that it uses."""

    heading: ClassVar[str] = "Engine"

    engine: str = option("NAME", f"{SUMMARIES}.", "local", env=True, choices=ENGINES)
    device: str = DEVICE
    dtype: Dtype = DTYPE
    batch_tokens: int | None = option(
        "TOKENS", "Tokens of a batch, padding included.", env=True, min=1, unset="by the cache or memory of the device"
    )
    threads: int | None = option("N", "CPU threads.", env=True, min=1, max=1024, unset="torch's choice")
    base_url: str | None = option("URL", "Server, such as http://127.0.0.1:8000/v1; LBR_API_KEY is its key.", env=True)
    concurrency: int = option("N", "Concurrent requests.", CONCURRENCY, env=True, min=1, max=1000)
    dialect: str | None = option("NAME", f"API of the server: {', '.join(DIALECTS)}.", env=True, choices=DIALECTS)
    documents_per_request: int | None = option(
        "N", "Documents of a request.", env=True, min=1, max=10000, unset="by the dialect"
    )
    tokenizer: str | None = option(
        "MODEL",
        "Alias, hub id or folder with the tokenizer of the server's model.",
        env=True,
        autocompletion=completion(ALIASES),
    )
    workers: int = option("N", "Worker processes, each of which loads the model.", 1, env=True, min=1)
    worker_cpus: int = option("N", "CPUs and threads of each worker.", 1, env=True, min=1)
    worker_gpus: float = option("N", "GPUs of each worker; 0.5 is half a GPU.", 0.0, env=True, min=0)
    ray_address: str | None = option("ADDRESS", "Ray cluster to join.", env=True, unset="a new one on this machine")

    @classmethod
    def readers(cls, option: str) -> list[str]:
        return [name for name, engine in ENGINES.items() if option in engine.options]

    @property
    def has_model(self) -> bool:
        return bool(ENGINES[self.engine].options)

    @property
    def is_server(self) -> bool:
        return self.reads("base_url")

    @property
    def is_rerank_server(self) -> bool:
        return ENGINES[self.engine].scores_pairs

    def reads(self, option: str) -> bool:
        """Return whether the engine reads an option; options that no engine declares apply to all."""
        return option not in COMPUTING or option in ENGINES[self.engine].options

    def refuse_unread(self, given: frozenset[str]) -> None:
        """Raise UsageError for an option of other engines."""
        refuse(given, sorted(COMPUTING - ENGINES[self.engine].options), f"it is not for --engine {self.engine}")

    def settings(self, max_length: int | None) -> Settings:
        server = workers = None
        if self.is_server:
            if self.base_url is None:
                raise UsageError(f"--engine {self.engine} needs --base-url", hint="--base-url http://127.0.0.1:8000/v1")
            if max_length is not None and self.tokenizer is None:
                raise UsageError("--max-length has no effect: without --tokenizer nothing is truncated")
            server = Server(self.base_url, self.concurrency)
        if self.is_rerank_server and server:
            if self.dialect is None:
                raise UsageError(f"--engine {self.engine} needs --dialect", hint=f"one of {', '.join(DIALECTS)}")
            server = replace(server, dialect=self.dialect, documents_per_request=self.documents_per_request)
        if self.reads("workers"):
            workers = Workers(self.workers, self.worker_cpus, self.worker_gpus, self.ray_address)
        resources = (max_length, self.batch_tokens, self.threads)
        return Settings(self.device, self.dtype, *resources, server=server, workers=workers)
