"""The engine on this machine: transformers and torch, on a CPU, CUDA or MPS device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from lbr_cli.core import Embedding, NextToken, Pair, TokenEmbeddings
from lbr_cli.engines import ComputeSpec, Settings
from lbr_cli.engines.label_ids import LabelIds
from lbr_cli.engines.local.bert_loading import load_bert
from lbr_cli.engines.local.compiling import compile_layers
from lbr_cli.engines.local.cross_encoder import CrossEncoder
from lbr_cli.engines.local.devices import (
    choose_budget,
    choose_device,
    choose_devices,
    choose_dtype,
    computes_wide,
    dtype_name,
    keep_freed_memory,
    precision,
)
from lbr_cli.engines.local.encoder import Encoder
from lbr_cli.engines.local.engine import LocalEngine
from lbr_cli.engines.local.float32_compute import compute_in_float32
from lbr_cli.engines.local.frontend import PROMPT_HINT, Frontend, read
from lbr_cli.engines.local.head import LabelHead, ScoreHead
from lbr_cli.engines.local.int8_compute import compute_in_int8
from lbr_cli.engines.local.invariant_attention import make_attention_invariant
from lbr_cli.engines.local.loading import in_float32, load_model
from lbr_cli.engines.local.packed import Packed, reason_not_packable
from lbr_cli.engines.local.padded import Padded
from lbr_cli.engines.local.processes import PreparedProcesses
from lbr_cli.engines.local.prompt_engine import Head, PromptEngine
from lbr_cli.engines.local.self_check import difference, embedding_rows, made_up_prompts, own_hidden_states
from lbr_cli.engines.local.seq2seq import Seq2Seq
from lbr_cli.engines.local.text_tokenizer import TextTokenizer
from lbr_cli.engines.local.token_encoder import TokenEncoder
from lbr_cli.engines.local.token_tokenizer import TokenTokenizer
from lbr_cli.engines.pretrained import check_vocabulary
from lbr_cli.engines.prompts import prompt_digest
from lbr_cli.errors import MissingError, RunError, first_line
from lbr_cli.models import LocalModel
from lbr_cli.models.folder import OTHER_FAMILY_HINT


@dataclass(frozen=True, slots=True)
class PreparedLocal:
    """The small files of a model, and the device and precision to compute in."""

    files: Frontend
    settings: Settings
    device: torch.device
    dtype: torch.dtype
    spec: ComputeSpec
    warnings: ClassVar[Sequence[str]] = ()

    def load(self, pairs: int = 0) -> LocalEngine[Any]:
        """Return the engine for the requests of the model's family, with the weights of its folder.

        Raises RunError if memory runs out, MissingError if the weights cannot be used.
        """
        if self.settings.threads:
            torch.set_num_threads(self.settings.threads)
        if self.device.type == "cpu":
            keep_freed_memory()
        folder = self.files.model.folder
        try:
            return self._engine(pairs)
        except torch.OutOfMemoryError as error:
            raise RunError(f"{folder}: out of memory: the weights do not fit") from error
        except RuntimeError as error:  # some models mix precisions in their own code
            problem = f"cannot be computed in {dtype_name(self.dtype)} on {self.device}: {first_line(error)}"
            raise MissingError(f"{folder}: {problem}", hint="try --dtype float32") from error

    def _engine(self, pairs: int) -> LocalEngine[Any]:
        files, settings, device, dtype = self.files, self.settings, self.device, self.dtype
        is_int8 = dtype == torch.int8
        stored = torch.float32 if is_int8 else dtype
        weights = None if settings.plain else load_bert(files.kind.__name__, files.model, device, stored)
        if weights is None:
            weights = load_model(files.kind, files.model, device, stored)
            if is_int8:
                make_attention_invariant(weights)
        check_vocabulary(files.tokenizer, embedding_rows(weights), files.model, files.prompt_ids())
        rows = made_up_prompts(files.tokenizer, weights, files.max_length)
        head = _head(files, weights, rows)  # before `compute_in_float32`: it is checked against the model's own code
        wide = computes_wide(device, dtype)
        description = f"{device}, {precision(device, dtype)}"
        if wide and not compute_in_float32(weights, rows, own_code=files.model.trusted):
            description += ", weights converted to float32"
        arithmetic = torch.float32 if wide or is_int8 else dtype
        budget = 1 if settings.plain else settings.batch_tokens or choose_budget(device, weights.config)
        if head is None:
            engine = _encoder(files, weights, rows, arithmetic, budget, description)
            if is_int8:  # after the checks of the engine, which are strict in float32
                compute_in_int8(weights, rows)
            return engine
        if weights.config.is_encoder_decoder:
            if is_int8:
                compute_in_int8(weights, rows)
            return PromptEngine(Seq2Seq(weights), budget, description, files.prompts, head)
        backbone = _checked_backbone(weights, rows, arithmetic, plain=settings.plain)
        if is_int8:
            with backbone.own_code():
                compute_in_int8(weights, rows)
        if isinstance(backbone, Padded):
            description += f", padded for {backbone.reason}"
        elif compile_layers(weights, backbone.layers, arithmetic, pairs):
            description += ", compiled"
        return PromptEngine(backbone, budget, description, files.prompts, head)


def _encoder(
    files: Frontend, weights: Any, rows: list[list[int]], arithmetic: torch.dtype, budget: int, description: str
) -> LocalEngine[Any]:
    """Return the engine of a model without a head that reads the last token, checked on the made-up prompts `rows`."""
    if files.pooling is not None and isinstance(files.prompts, TextTokenizer):
        own_hidden_states(weights, rows[:1])  # raises for a model that cannot run
        return Encoder(weights, budget, description, files.pooling, files.prompts)
    if files.projection is not None and isinstance(files.prompts, TokenTokenizer):
        own_hidden_states(weights, rows[:1])
        return TokenEncoder(weights, budget, description, files.projection, files.prompts)
    return CrossEncoder(weights, budget, description, files.prompts, arithmetic, files.pooling, files.samples())


def prepare(model: LocalModel, settings: Settings) -> PreparedLocal | PreparedProcesses:
    """Prepare the engine for one device, or processes for several devices. Raises the errors of `prepare_device`."""
    devices = choose_devices(settings.device)
    if len(devices) == 1:
        return prepare_device(model, settings)
    first = prepare_device(model, replace(settings, device=str(devices[0])))
    return PreparedProcesses(model, settings, devices, first.spec)


def prepare_device(model: LocalModel, settings: Settings) -> PreparedLocal:
    """Read the small files, and choose device and precision.

    Raises UsageError and MissingError for a device that is not on this machine, and for a model that cannot be used.
    """
    device = choose_device(settings.device)
    dtype = choose_dtype(settings.dtype, device)
    files = read(model, settings)
    prompt, dated = prompt_digest(model.family, lambda request: files.prompt(request).ids, files.tokenizer)
    spec = ComputeSpec(
        device.type, precision(device, dtype), files.max_length, prompt, dated, tokenizer=files.tokenizer_source
    )
    return PreparedLocal(files, settings, device, dtype, spec)


def _checked_backbone(weights: Any, rows: list[list[int]], arithmetic: torch.dtype, *, plain: bool) -> Packed | Padded:
    """Return the fastest backbone that gives the hidden states of the model's own code.

    Raises MissingError if padded batches do not give them either: then the model attends to padding.
    """
    reason = "comparison" if plain else reason_not_packable(weights)
    if not reason:
        packed = Packed(weights)
        problem = _problem(packed, weights, rows, arithmetic)
        if not problem:
            return packed
        packed.release()
        reason = f"custom attention ({problem} when packed)"
    padded = Padded(weights, reason)
    problem = _problem(padded, weights, rows, arithmetic)
    if problem:
        message = f"unsupported model: a {type(weights).__name__} cannot be read in padded batches: {problem}"
        raise MissingError(message, hint=OTHER_FAMILY_HINT)
    return padded


def _problem(backbone: Packed | Padded, weights: Any, rows: list[list[int]], arithmetic: torch.dtype) -> str:
    """Return how the hidden states of a backbone differ from those of the model's own code; "" if they do not.

    A mixture of experts may choose another expert after another rounding, so a difference in half precision counts only
    if there is also one in float32.
    """
    with backbone.own_code():
        expected = own_hidden_states(weights, rows)
    problem = difference(backbone, rows, expected, arithmetic)
    if not problem or arithmetic == torch.float32:
        return problem
    with in_float32(weights):
        return _problem(backbone, weights, rows, torch.float32)


def _head(files: Frontend, weights: Any, rows: list[list[int]]) -> Head | None:
    """Return the head that reads the last token of a prompt; None for an encoder.

    The head is compared with the model's own on the made-up prompts `rows`. MissingError if the logits
    differ, and for an unsupported head.
    """
    family, folder = files.model.family, files.model.folder
    if family.request_type is NextToken:
        return LabelHead(weights, LabelIds(files.tokenizer, files.model.name), rows)
    if family.request_type in (Embedding, TokenEmbeddings) or files.pooling is not None:
        return None
    if weights.config.num_labels > 2:
        labels = f"{weights.config.num_labels} labels"
        raise MissingError(f"{folder}: a {type(weights).__name__} with {labels}; lbr reads one or two")
    if not _is_causal_classifier(weights):
        return None
    if family.request_type is Pair and not files.model.reads_bare_pairs:
        problem = f'"architectures" is {type(weights).__name__}, a causal model, and no file has its prompt'
        raise MissingError(f"{folder / 'config.json'}: {problem}", hint=PROMPT_HINT)
    return ScoreHead(weights, rows)


def _is_causal_classifier(weights: Any) -> bool:
    """Return whether a classifier is a causal model of transformers, whose head `score` reads the last token."""
    of_transformers = type(weights).__module__.startswith("transformers.models.")
    return of_transformers and isinstance(getattr(weights, "score", None), torch.nn.Linear)
