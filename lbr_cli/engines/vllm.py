"""vLLM in this process: it is given our own token ids, one prompt a pair, and tells the labels' log-probabilities.

Prompts and truncation are those of the local engine. vLLM keeps the prefix that a query's prompts share, and batches as
it sees fit; its own environment variables (`VLLM_CPU_KVCACHE_SPACE` and the like) hold.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar

import torch

from lbr_cli.core import Answer, Answered, Engine, Request
from lbr_cli.engines import UNLIMITED, Settings, Terms
from lbr_cli.engines.local.devices import choose_dtype, dtype_name
from lbr_cli.engines.machine import version_of
from lbr_cli.engines.next_token import ANSWER, TokenIds
from lbr_cli.engines.window import Chunk, Window
from lbr_cli.errors import LbrError, MissingError, RunError, UsageError, first_line
from lbr_cli.models import Model

AT_ONCE = {"cpu": 32, "cuda": 1024}  # prompts given to it together: the batches are its own, progress comes by these
# vLLM writes its log to stdout, which is for results; it computes in this process, so that an interrupt ends both
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A tokenizer, and how vLLM is going to compute."""

    model: Model
    settings: Settings
    ids: TokenIds
    device: str
    dtype: str
    terms: Terms
    warnings: ClassVar[Sequence[str]] = ()

    def load(self) -> Engine:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        with warnings.catch_warnings(action="ignore"):
            return Vllm(self, _load(self))


def prepare(model: Model | None, settings: Settings) -> Prepared:
    """Read the tokenizer and choose. Raises MissingError where vLLM is not here."""
    if model is None:
        raise ValueError("vLLM needs a model")
    if find_spec("vllm") is None:
        raise MissingError("--engine vllm: vLLM is not here", hint="pip install 'lbr-cli[vllm]'")
    if model.gguf:
        raise UsageError(f"--engine vllm: it takes a folder, and {model.place / model.gguf} is a GGUF file")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = dtype_name(choose_dtype(settings.dtype, torch.device(device)))
    ids = TokenIds(model, settings, "vllm")
    return Prepared(model, settings, ids, device, dtype, ids.terms(device, dtype))


class Vllm:
    """Answers `NextToken` requests."""

    def __init__(self, prepared: Prepared, llm: Any) -> None:
        self.setting = f"vLLM {version_of('vllm')}, {prepared.device}, {prepared.dtype}"
        self._ids = prepared.ids
        self._llm = llm
        self._window = Window(self._started, AT_ONCE[prepared.device], flight=1)

    def expect(self, requests: Iterable[Request]) -> int:
        announced = self._ids.look_over(requests)
        return self._window.expect(requests, document_first=announced.document_first)

    def answer(self, requests: Sequence[Request]) -> Iterator[Answered]:
        return self._window.answer(requests)

    def _started(self, chunk: Chunk) -> Future[Sequence[Answer]]:
        """Done by the time it is returned: vLLM computes in this thread, where an interrupt can reach it."""
        future: Future[Sequence[Answer]] = Future()
        try:
            future.set_result(self._computed(chunk))
        except LbrError as error:
            future.set_exception(error)
        return future

    def _computed(self, chunk: Chunk) -> list[Answer]:
        from vllm import SamplingParams

        prompts = [self._ids.prompt(request, place) for place, request in enumerate(chunk)]
        labels = self._ids.labels(chunk[0])  # one family asks, so all have the same
        try:
            asked = SamplingParams(max_tokens=ANSWER, temperature=0.0, logprob_token_ids=labels, detokenize=False)
        except TypeError as error:
            message = f"--engine vllm: vLLM {version_of('vllm')} knows no logprob_token_ids"
            raise MissingError(message, hint="pip install -U 'lbr-cli[vllm]'") from error
        try:
            outputs = self._llm.generate(
                [{"prompt_token_ids": prompt.ids} for prompt in prompts], asked, use_tqdm=False
            )
        except (RuntimeError, ValueError) as error:
            raise RunError(f"vLLM failed: {first_line(error)}") from error
        answers = []
        for prompt, output in zip(prompts, outputs, strict=True):
            told = output.outputs[0].logprobs[0]
            read = len(prompt.ids) - (output.num_cached_tokens or 0)
            answers.append(Answer([told[label].logprob for label in labels], prompt.truncated, read))
        return answers


def _load(prepared: Prepared) -> Any:
    length = prepared.ids.max_length
    try:
        from vllm import LLM

        return LLM(
            model=str(prepared.model.place),
            skip_tokenizer_init=True,  # it is given token ids, and tells log-probabilities
            trust_remote_code=prepared.model.trusted,
            dtype=prepared.dtype,
            max_model_len=length + ANSWER if length < UNLIMITED - ANSWER else None,
            max_num_batched_tokens=prepared.settings.batch_tokens,
            enable_prefix_caching=True,
            disable_log_stats=True,
            use_tqdm_on_load=False,
        )
    except torch.OutOfMemoryError as error:
        raise RunError(f"{prepared.model.place}: it does not fit into the memory that is free") from error
    except (ValueError, RuntimeError, TypeError, OSError, ImportError) as error:
        raise MissingError(f"{prepared.model.place}: vLLM cannot load it: {first_line(error)}") from error
