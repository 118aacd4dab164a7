"""Compare a fast path with the model's own forward pass on made-up prompts, when a model is loaded.

A configuration does not show every difference (DiffLlama has the parts of a Llama, but another attention), so each path
that replaces code of a model has to give the hidden states of that code.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from lbr_cli.core import Pair
from lbr_cli.engines.local.batching import TokenBudget
from lbr_cli.engines.local.prompt_engine import Backbone
from lbr_cli.engines.prompts import Prompt
from lbr_cli.errors import LbrError, MissingError, first_line

NO_REQUEST = Pair("", "")  # the request of a made-up prompt
SHARED, OWN = 8, (3, 6)  # numbers of tokens: of the shared prefix, and of each prompt after it
# how far hidden states may differ, relative to their norm; half precision differs by the order of its sums
TOLERANCE, HALF_TOLERANCE = 1e-3, 0.1


def made_up_prompts(tokenizer: Any, model: Any, longest: int) -> list[list[int]]:
    """Return two prompts of at most `longest` tokens that share a prefix, of tokens from the whole vocabulary."""
    special = {*tokenizer.all_special_ids, getattr(model.config, "pad_token_id", None)}
    size = min(len(tokenizer), embedding_rows(model))
    ordinary = [token for token in range(size) if token not in special] or [0]
    shared = max(min(SHARED, longest - 2), 0)
    lengths = [max(min(own, longest - shared), 1) for own in OWN]
    count = shared + sum(lengths)
    tokens = [ordinary[position * 7919 % len(ordinary)] for position in range(1, count + 1)]
    prefix, rest = tokens[:shared], tokens[shared:]
    return [prefix + rest[: lengths[0]], prefix + rest[lengths[0] :]]


def embedding_rows(model: Any) -> int:
    """Return the number of rows of a model's embeddings; `vocab_size` if its code does not return them."""
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (NotImplementedError, AttributeError):
        return int(model.config.vocab_size)


@contextmanager
def running(model: Any) -> Iterator[None]:
    """Turn any error of a model's code in this block into a MissingError, except OutOfMemoryError."""
    try:
        yield
    except (torch.OutOfMemoryError, LbrError):
        raise
    except Exception as error:
        problem = f"a {type(model).__name__} fails on a prompt: {first_line(error)}"
        loaded_in_half = getattr(model.config, "dtype", None) in (torch.bfloat16, torch.float16)
        hint = "try --dtype float32" if loaded_in_half else ""  # some models mix precisions in their own code
        raise MissingError(f"unsupported model: {problem}", hint=hint) from error


@torch.inference_mode()
def own_hidden_states(model: Any, rows: Sequence[list[int]]) -> torch.Tensor:
    """Return [rows, size], float32: the hidden state of the last token of each row, read alone by the model's code.

    For an encoder-decoder, it is the hidden state of the first token of the decoder.
    """
    base = model.base_model
    options: dict[str, Any] = {}
    if model.config.is_encoder_decoder:
        options["decoder_input_ids"] = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    if "use_cache" in inspect.signature(base.forward).parameters:
        options["use_cache"] = False
    with running(model), _without_head(base):
        outputs = [base(input_ids=torch.tensor([row], device=model.device), **options) for row in rows]
        # T5 has no base model without a head
        hidden = [getattr(output, "last_hidden_state", None) for output in outputs]
        states = [output.logits if state is None else state for output, state in zip(outputs, hidden, strict=True)]
        return torch.stack([state[0, -1].float() for state in states])


@contextmanager
def _without_head(model: Any) -> Iterator[None]:
    """Let an encoder-decoder return its hidden states as logits in this block."""
    head = model.get_output_embeddings() if model.config.is_encoder_decoder else None
    if head is not None:
        model.set_output_embeddings(torch.nn.Identity())
    try:
        yield
    finally:
        if head is not None:
            model.set_output_embeddings(head)


@torch.inference_mode()
def own_logits(model: Any, row: list[int]) -> torch.Tensor:
    """Return the logits of the model's own forward pass for a row, float32: [tokens, labels] or [labels]."""
    with running(model):
        logits: torch.Tensor = model(input_ids=torch.tensor([row], device=model.device), use_cache=False).logits
        return logits[0].float()


@torch.inference_mode()
def difference(backbone: Backbone, rows: Sequence[list[int]], expected: torch.Tensor, dtype: torch.dtype) -> str:
    """Return how the hidden states of a backbone differ from `expected`, in words; "" if they agree.

    The rows are read as one batch, and one by one, so that a prefix has to be carried from batch to batch.
    """
    prompts = [Prompt(NO_REQUEST, row, False) for row in rows]
    numbers = {id(prompt): number for number, prompt in enumerate(prompts)}
    for tokens in (1 << 20, 1):
        computed = torch.empty_like(expected)
        try:
            for batch, _, hidden in backbone.read(prompts, ["self-check"] * len(rows), TokenBudget(tokens)):
                computed[[numbers[id(prompt)] for prompt in batch]] = hidden
        except Exception as error:  # code of a model may raise anything
            return f"it fails: {first_line(error)}"
        error_norm = relative_difference(computed, expected)
        if not error_norm <= (TOLERANCE if dtype == torch.float32 else HALF_TOLERANCE):
            return f"hidden states differ by {error_norm:.2g} of their norm"
    return ""


def relative_difference(computed: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest |computed - expected| / |expected| of a row; NaN if a value is not finite."""
    return float(((computed - expected).norm(dim=-1) / expected.norm(dim=-1).clamp(min=1e-9)).max())
