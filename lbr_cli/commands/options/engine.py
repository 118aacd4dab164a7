"""Engine options. `ENGINES` says which engine reads which."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import typer

from lbr_cli.commands.command import OptionGroup, one_of, refuse
from lbr_cli.engines import CONCURRENCY, ENGINES, Server, Settings, Workers
from lbr_cli.errors import UsageError

COMPUTING = frozenset().union(*(engine.options for engine in ENGINES.values()))  # options that some engine reads


Device = Annotated[
    str,
    typer.Option(metavar="DEVICE", envvar="LBR_DEVICE", help="cpu, cuda, cuda:1 or mps; auto is the best available."),
]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    typer.Option(
        metavar="DTYPE",
        envvar="LBR_DTYPE",
        help="auto, float32, bfloat16 or float16; auto is bfloat16 if the device computes in it.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceOptions(OptionGroup):
    """Where and in which precision the local engine computes."""

    heading: ClassVar[str] = "Engine"

    device: Device = "auto"
    dtype: Dtype = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions(OptionGroup):
    """What computes the scores, and with which resources."""

    heading: ClassVar[str] = "Engine"

    engine: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            envvar="LBR_ENGINE",
            parser=one_of(ENGINES),
            help="; ".join(f"{name}: {engine.summary}" for name, engine in ENGINES.items()) + ".",
        ),
    ] = "local"
    device: Device = "auto"
    dtype: Dtype = "auto"
    batch_tokens: Annotated[
        int | None,
        typer.Option(
            metavar="TOKENS",
            min=1,
            envvar="LBR_BATCH_TOKENS",
            help="Tokens of a batch, padding included.",
            show_default="by the cache or memory of the device",
        ),
    ] = None
    threads: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, max=1024, envvar="LBR_THREADS", help="CPU threads.", show_default="torch's choice"
        ),
    ] = None
    base_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="LBR_BASE_URL",
            help="Server, such as http://127.0.0.1:8000/v1; LBR_API_KEY is its key.",
        ),
    ] = None
    concurrency: Annotated[
        int, typer.Option(metavar="N", min=1, max=1000, envvar="LBR_CONCURRENCY", help="Concurrent requests.")
    ] = CONCURRENCY
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            envvar="LBR_TOKENIZER",
            help="Alias, hub id or folder with the tokenizer of the server's model.",
        ),
    ] = None
    workers: Annotated[
        int,
        typer.Option(metavar="N", min=1, envvar="LBR_WORKERS", help="Worker processes, each of which loads the model."),
    ] = 1
    worker_cpus: Annotated[
        int, typer.Option(metavar="N", min=1, envvar="LBR_WORKER_CPUS", help="CPUs and threads of each worker.")
    ] = 1
    worker_gpus: Annotated[
        float,
        typer.Option(metavar="N", min=0, envvar="LBR_WORKER_GPUS", help="GPUs of each worker; 0.5 is half a GPU."),
    ] = 0.0
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            envvar="LBR_RAY_ADDRESS",
            help="Ray cluster to join.",
            show_default="a new one on this machine",
        ),
    ] = None

    @classmethod
    def readers(cls, option: str) -> list[str]:
        return [name for name, engine in ENGINES.items() if option in engine.options]

    @property
    def has_model(self) -> bool:
        return bool(ENGINES[self.engine].options)

    @property
    def is_server(self) -> bool:
        return self.reads("base_url")

    def reads(self, option: str) -> bool:
        """Return whether the engine reads an option, if it is about computing at all."""
        return option not in COMPUTING or option in ENGINES[self.engine].options

    def refuse_unread(self, given: frozenset[str]) -> None:
        """UsageError for an option that is for other engines."""
        refuse(given, sorted(COMPUTING - ENGINES[self.engine].options), f"it is not for --engine {self.engine}")

    def settings(self, max_length: int | None) -> Settings:
        if self.is_server and self.base_url is None:
            raise UsageError(f"--engine {self.engine} needs --base-url", hint="--base-url http://127.0.0.1:8000/v1")
        if self.is_server and max_length is not None and self.tokenizer is None:
            raise UsageError("--max-length has no effect: without --tokenizer nothing is truncated")
        return Settings(
            device=self.device,
            dtype=self.dtype,
            max_length=max_length,
            batch_tokens=self.batch_tokens,
            threads=self.threads,
            server=Server(self.base_url, self.concurrency) if self.is_server and self.base_url else None,
            workers=Workers(self.workers, self.worker_cpus, self.worker_gpus, self.ray_address)
            if self.reads("workers")
            else None,
        )
