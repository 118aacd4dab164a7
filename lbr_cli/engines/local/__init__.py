"""The engine on this machine: transformers and torch, on a CPU, CUDA or MPS device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import torch
import transformers
from tokenizers import normalizers

from lbr_cli.core import Document, Embedding, Engine, NextToken, Pair, Request
from lbr_cli.engines import Settings, Terms
from lbr_cli.engines.labels import Labels
from lbr_cli.engines.local.compiling import Compiling
from lbr_cli.engines.local.cross_encoder import CrossEncoder
from lbr_cli.engines.local.devices import (
    choose_budget,
    choose_device,
    choose_dtype,
    computes_wide,
    dtype_name,
    keep_freed_memory,
)
from lbr_cli.engines.local.encoder import Encoder, tokenised
from lbr_cli.engines.local.head import LabelHead, ScoreHead
from lbr_cli.engines.local.loading import in_float32, load_model
from lbr_cli.engines.local.packed import Packed, why_not
from lbr_cli.engines.local.padded import Padded
from lbr_cli.engines.local.pairs import Pairs
from lbr_cli.engines.local.plan import Budget
from lbr_cli.engines.local.pooling import Pooling, read_pooling
from lbr_cli.engines.local.prompted import Head, Prompted
from lbr_cli.engines.local.self_check import difference, embedding_rows, made_up_prompts, own_hidden_states
from lbr_cli.engines.local.seq2seq import Seq2Seq
from lbr_cli.engines.local.widen import widen_checked
from lbr_cli.engines.pretrained import check_vocabulary, choose_length, load_config, load_tokenizer, longest_input
from lbr_cli.engines.prompts import Maker, Prompt, Prompts, digest_of, prompt_for, spelt_out
from lbr_cli.errors import MissingError, RunError, first_line
from lbr_cli.models import Model
from lbr_cli.models.files import OTHER_FAMILY_HINT

T5_TYPES = ("t5", "mt5", "umt5")  # of these a bi-encoder has the encoder alone


@dataclass(frozen=True, slots=True)
class Local:
    """The small files of a model, read, and where and in which precision it will compute."""

    files: Files
    settings: Settings
    device: torch.device
    dtype: torch.dtype
    terms: Terms
    warnings: ClassVar[Sequence[str]] = ()

    def load(self) -> Engine:
        """The engine for the requests of the model's family, with the weights of its folder."""
        if self.settings.threads:
            torch.set_num_threads(self.settings.threads)
        if self.device.type == "cpu":
            keep_freed_memory()
        try:
            return _engine(self.files, self.settings, self.device, self.dtype)
        except torch.OutOfMemoryError as error:
            raise RunError(f"{self.files.model.place}: it does not fit into the memory that is free") from error
        except RuntimeError as error:  # some models mix precisions in their own code
            what = f"cannot be computed in {dtype_name(self.dtype)} on {self.device}"
            raise MissingError(
                f"{self.files.model.place}: {what}: {first_line(error)}", hint="try --dtype float32"
            ) from error


def prepare(model: Model | None, settings: Settings) -> Local:
    """Read the files and choose. Raises for a device that is not here, and for a model that cannot be used."""
    if model is None:
        raise ValueError("the local engine needs a model")
    device = choose_device(settings.device)
    dtype = choose_dtype(settings.dtype, device)
    files = _read(model, settings)
    prompt, dated = digest_of(model.known_family, lambda request: files.prompt(request).ids, files.tokenizer)
    terms = Terms(device.type, _precision(device, dtype), files.max_length, prompt, dated)
    return Local(files, settings, device, dtype, terms)


def _precision(device: torch.device, dtype: torch.dtype) -> str:
    return f"{dtype_name(dtype)}{' computed in float32' if computes_wide(device, dtype) else ''}"


def _engine(files: Files, settings: Settings, device: torch.device, dtype: torch.dtype) -> Engine:
    weights = load_model(files.kind, files.model, device, dtype)
    check_vocabulary(files.tokenizer, embedding_rows(weights), files.model)
    rows = made_up_prompts(files.tokenizer, weights, files.max_length)
    head = _head(files, weights, rows)  # before the weights are widened: it is checked against the model as it is
    wide = computes_wide(device, dtype)
    setting = f"{device}, {_precision(device, dtype)}"
    if wide and not widen_checked(weights, rows, its_own=files.model.trusted):
        setting += ", weights converted to float32"
    arithmetic = torch.float32 if wide else dtype
    budget = Budget(1 if settings.plain else settings.batch_tokens or choose_budget(device, weights.config))
    if files.pooling is not None:
        own_hidden_states(weights, rows[:1])  # a model that cannot be run is refused now
        return Encoder(weights, files.pooling, files.tokenizer, files.max_length, budget, setting)
    if head is None:
        return CrossEncoder(
            weights, cast(Pairs, files.maker), files.tokenizer.pad_token_id or 0, budget, setting, arithmetic
        )
    if weights.config.is_encoder_decoder:
        return Prompted(Seq2Seq(weights), files.maker, head, budget, setting)
    reader = _checked_reader(weights, rows, arithmetic, plain=settings.plain)
    if isinstance(reader, Packed):
        return Prompted(reader, files.maker, head, budget, setting, Compiling(weights, arithmetic))
    return Prompted(reader, files.maker, head, budget, f"{setting}, padded for {reader.reason}")


def _checked_reader(weights: Any, rows: list[list[int]], arithmetic: torch.dtype, *, plain: bool) -> Packed | Padded:
    """The fastest reader that gives the hidden states of the model's own code.

    Raises MissingError if padded batches do not give them either: the model sees the padding.
    """
    reason = "comparison" if plain else why_not(weights)
    if not reason:
        packed = Packed(weights)
        problem = _problem(packed, weights, rows, arithmetic)
        if not problem:
            return packed
        packed.release()
        reason = f"attention of its own kind ({problem} when packed)"
    padded = Padded(weights, reason)
    problem = _problem(padded, weights, rows, arithmetic)
    if problem:
        what = f"a {type(weights).__name__} cannot be read in padded batches: {problem}"
        raise MissingError(f"{what}, so lbr cannot compute its scores", hint=OTHER_FAMILY_HINT)
    return padded


def _problem(reader: Packed | Padded, weights: Any, rows: list[list[int]], arithmetic: torch.dtype) -> str:
    """How a reader differs from the model's own code, in words; "" if it does not.

    In half precision a mixture of experts may choose another expert after another rounding, so a difference there
    counts only if it is one in float32, too.
    """
    problem = _difference(reader, weights, rows, arithmetic)
    if problem and arithmetic != torch.float32:
        with in_float32(weights):
            problem = _difference(reader, weights, rows, torch.float32)
    return problem


def _difference(reader: Packed | Padded, weights: Any, rows: list[list[int]], arithmetic: torch.dtype) -> str:
    with reader.own_code():
        expected = own_hidden_states(weights, rows)
    return difference(reader, rows, expected, arithmetic)


def read(model: Model, settings: Settings) -> Files:
    """The small files of a model, for a device that is here."""
    choose_dtype(settings.dtype, choose_device(settings.device))  # refuses what is not
    return _read(model, settings)


@dataclass(frozen=True, slots=True)
class Files:
    """What is needed of a model before its weights: `kind` is the Auto class to load those of `model` with."""

    model: Model
    kind: Any
    tokenizer: Any
    max_length: int
    maker: Maker
    pooling: Pooling | None = None

    def prompt(self, request: Request, place: int = 0) -> Prompt:
        """The tokens of a request. RequestError with its place where the query leaves no room for the document."""
        if not isinstance(request, Embedding):
            return prompt_for(self.maker, request, place)
        encoded = tokenised(self.tokenizer, [request], self.max_length)
        return Prompt(encoded["input_ids"][0], bool(encoded.encodings[0].overflowing))

    def text(self, ids: list[int]) -> str:
        """Token ids as text, special tokens spelt out."""
        return spelt_out(self.tokenizer, ids)


def _read(model: Model, settings: Settings) -> Files:
    asks = model.known_family.asks
    pooling = read_pooling(model.place) if asks is Embedding else None
    if pooling is not None:
        model = replace(model, folder=pooling.transformer)
    config = load_config(model)
    tokenizer = load_tokenizer(model)
    if pooling is not None and pooling.lower_case:
        own = tokenizer.backend_tokenizer.normalizer
        lower = normalizers.Lowercase()
        tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([lower, own]) if own else lower
    least = tokenizer.num_special_tokens_to_add(pair=asks is Pair) + 1
    limit = longest_input(tokenizer, config)
    max_length = choose_length(model, settings, limit, least, pooling.limit if pooling else None)
    kind: Any = transformers.AutoModelForSequenceClassification
    maker: Maker = Pairs(tokenizer, max_length) if asks is Pair else Prompts(tokenizer, max_length, model.name)
    if asks is NextToken:
        # a template that cannot be used is told now, before the weights are loaded
        maker.length_without_document(model.known_family.requests("", Document("", ""))[0])
        kind = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    elif asks is Embedding:
        encoder_alone = config.is_encoder_decoder or config.model_type in T5_TYPES
        kind = transformers.AutoModelForTextEncoding if encoder_alone else transformers.AutoModel
    return Files(model, kind, tokenizer, max_length, maker, pooling)


def _head(files: Files, weights: Any, rows: list[list[int]]) -> Head | None:
    """What reads the last token of a prompt; None for models that read a whole text at once.

    `rows` are made-up prompts, on which a head is compared with the model's own.
    """
    family, folder = files.model.known_family, files.model.place
    if family.asks is NextToken:
        return LabelHead(weights, Labels(files.tokenizer, files.model.name), rows)
    if family.asks is Pair and weights.config.num_labels > 2:
        what = f"a {type(weights).__name__} with {weights.config.num_labels} labels"
        raise MissingError(f"{folder}: {what}; lbr reads one or two")
    if family.asks is not Pair or not _reads_left_to_right(weights):
        return None
    if not files.model.reads_bare_pairs:
        what = f'"architectures" is {type(weights).__name__}, a causal model, and no file has the prompt of its author'
        hint = "--family classifier reads the bare pair, the query and then the document, if it was trained so"
        raise MissingError(f"{folder / 'config.json'}: {what}", hint=hint)
    return ScoreHead(weights, rows)


def _reads_left_to_right(weights: Any) -> bool:
    """Whether a classifier is one of transformers' own on a causal model: its head `score` reads the last token."""
    its_own = type(weights).__module__.startswith("transformers.models.")
    return its_own and isinstance(getattr(weights, "score", None), torch.nn.Linear)
