"""vLLM in this process: it receives one prompt of token ids for each pair, and returns the labels' log-probabilities.

Prompts and truncation are those of the local engine. vLLM caches the prefix that prompts share and chooses its own
batches; its environment variables (`VLLM_CPU_KVCACHE_SPACE` and others) apply.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar

import torch

from lbr_cli.core import Answer, Batch, Engine, Request
from lbr_cli.engines import UNLIMITED, ComputeSpec, Settings
from lbr_cli.engines.environment import version_of
from lbr_cli.engines.local.devices import choose_dtype, dtype_name
from lbr_cli.engines.token_prompts import ANSWER_TOKENS, TokenPrompts
from lbr_cli.errors import MissingError, RunError, UsageError, first_line
from lbr_cli.models import LocalModel
from lbr_cli.models.adapter import MERGE_HINT

# prompts of one call: vLLM chooses its batches among them, and progress is reported after each call
CALL_SIZE = {"cpu": 32, "cuda": 1024}
# its log goes to stdout by default, which is for results; it computes in this process, so that Ctrl-C ends both
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """The prompts of a model, and how vLLM will compute."""

    model: LocalModel
    batch_tokens: int | None
    prompts: TokenPrompts
    spec: ComputeSpec
    warnings: ClassVar[Sequence[str]] = ()

    def load(self, pairs: int = 0) -> Engine:
        """Load the weights into vLLM. RunError if memory runs out, MissingError if vLLM cannot load them."""
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        folder, length = self.model.folder, self.prompts.max_length
        try:
            with warnings.catch_warnings(action="ignore"):
                from vllm import LLM

                llm = LLM(
                    model=str(folder),
                    skip_tokenizer_init=True,  # it receives token ids and returns log-probabilities
                    trust_remote_code=self.model.trusted,
                    dtype=self.spec.dtype,
                    max_model_len=length + ANSWER_TOKENS if length < UNLIMITED - ANSWER_TOKENS else None,
                    max_num_batched_tokens=self.batch_tokens,
                    enable_prefix_caching=True,
                    disable_log_stats=True,
                    use_tqdm_on_load=False,
                )
        except torch.OutOfMemoryError as error:
            raise RunError(f"{folder}: out of memory: the weights do not fit") from error
        except (ValueError, RuntimeError, TypeError, OSError, ImportError) as error:
            raise MissingError(f"{folder}: vLLM cannot load it: {first_line(error)}") from error
        return Vllm(llm, self.prompts, self.spec)


def prepare(model: LocalModel, settings: Settings) -> Prepared:
    """Read the tokenizer, and choose device and precision. MissingError if vLLM is not installed."""
    if find_spec("vllm") is None:
        raise MissingError("--engine vllm: vllm is not installed", hint="pip install 'lbr-cli[vllm]'")
    if model.gguf:
        raise UsageError(f"--engine vllm: unsupported model: {model.path} is a GGUF file, not a folder")
    if model.base:
        raise UsageError(f"--engine vllm: unsupported model: {model.folder} is an adapter", hint=MERGE_HINT)
    if settings.dtype == "int8":
        raise UsageError("--dtype int8: unsupported by --engine vllm, only by --engine local on CPUs")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = dtype_name(choose_dtype(settings.dtype, torch.device(device)))
    prompts = TokenPrompts(model, settings, "vllm")
    return Prepared(model, settings.batch_tokens, prompts, prompts.spec(device, dtype))


class Vllm:
    """Answers `NextToken` requests."""

    def __init__(self, llm: Any, prompts: TokenPrompts, spec: ComputeSpec) -> None:
        self.description = f"vLLM {version_of('vllm')}, {spec.device}, {spec.dtype}"
        self.window = CALL_SIZE[spec.device]
        self._prompts = prompts
        self._llm = llm

    def check(self, requests: Iterable[Request]) -> None:
        """Raise RequestError for a query without room for a document, MissingError for a label that is no token."""
        self._prompts.check(requests)

    def answer(self, windows: Iterable[Sequence[Request]]) -> Iterator[Batch]:
        """Yield a batch for each call of vLLM, which computes in this thread, so that Ctrl-C can interrupt it."""
        for window in windows:
            for start in range(0, len(window), self.window):
                yield self._generate(window[start : start + self.window])

    def _generate(self, requests: Sequence[Request]) -> Batch:
        from vllm import SamplingParams

        prompts = [self._prompts.prompt(request) for request in requests]
        labels = self._prompts.label_ids(requests[0])  # the requests of one family have the same labels
        try:
            options = SamplingParams(max_tokens=1, temperature=0.0, logprob_token_ids=labels, detokenize=False)
        except TypeError as error:
            message = f"--engine vllm: vLLM {version_of('vllm')} does not support logprob_token_ids"
            raise MissingError(message, hint="pip install -U 'lbr-cli[vllm]'") from error
        token_ids = [{"prompt_token_ids": prompt.ids} for prompt in prompts]
        try:
            outputs = self._llm.generate(token_ids, options, use_tqdm=False)
        except (RuntimeError, ValueError) as error:
            raise RunError(f"vLLM failed: {first_line(error)}") from error
        answers = []
        tokens = 0
        for prompt, output in zip(prompts, outputs, strict=True):
            logprobs = output.outputs[0].logprobs[0]
            answers.append((prompt.request, Answer([logprobs[label].logprob for label in labels], prompt.truncated)))
            tokens += len(prompt.ids) - (output.num_cached_tokens or 0)
        return Batch(answers, tokens)
