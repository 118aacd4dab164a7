"""Compare a fast path with the model's own forward pass on made-up prompts, when a model is loaded.

A configuration cannot rule out that an architecture computes something otherwise (DiffLlama has the parts of a Llama
and another attention), so each path that replaces code of a model has to give the hidden states of that code.
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

MADE_UP = Pair("", "")  # a request for rows that come from none
SHARED, OWN = 8, (3, 6)  # tokens that the two prompts share, and that each has alone
# how far hidden states may differ, relative to their norm; half precision differs by the order of its sums
TOLERANCE, HALF_TOLERANCE = 1e-3, 0.1


def made_up_prompts(tokenizer: Any, model: Any, longest: int) -> list[list[int]]:
    """Two prompts of at most `longest` tokens that share a prefix, of ordinary tokens from all over the vocabulary."""
    special = {*tokenizer.all_special_ids, getattr(model.config, "pad_token_id", None)}
    size = min(len(tokenizer), embedding_rows(model))
    ordinary = [token for token in range(size) if token not in special] or [0]
    shared = max(min(SHARED, longest - 2), 0)
    lengths = [max(min(own, longest - shared), 1) for own in OWN]
    count = shared + sum(lengths)
    tokens = [ordinary[place * 7919 % len(ordinary)] for place in range(1, count + 1)]
    prefix, rest = tokens[:shared], tokens[shared:]
    return [prefix + rest[: lengths[0]], prefix + rest[lengths[0] :]]


def embedding_rows(model: Any) -> int:
    """How many token ids a model has embeddings for; with code of its own that does not say, as its configuration."""
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (NotImplementedError, AttributeError):
        return int(model.config.vocab_size)


@contextmanager
def running(model: Any) -> Iterator[None]:
    """MissingError for whatever the code of a model raises in this block, but for a lack of memory."""
    try:
        yield
    except (torch.OutOfMemoryError, LbrError):
        raise
    except Exception as error:
        raise MissingError(f"a {type(model).__name__} cannot be run on a prompt: {first_line(error)}") from error


@torch.inference_mode()
def own_hidden_states(model: Any, rows: Sequence[list[int]]) -> torch.Tensor:
    """[rows, size], float32: what the model's own code makes of the last token of each row, read alone.

    Of an encoder-decoder it is the first token of the decoder.
    """
    base = model.base_model
    more: dict[str, Any] = {}
    if model.config.is_encoder_decoder:
        more["decoder_input_ids"] = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    if "use_cache" in inspect.signature(base.forward).parameters:
        more["use_cache"] = False
    with running(model), _without_head(base):
        outputs = [base(input_ids=torch.tensor([row], device=model.device), **more) for row in rows]
        states = [output.logits if _has_logits(output) else output.last_hidden_state for output in outputs]
        return torch.stack([state[0, -1].float() for state in states])


def _has_logits(output: Any) -> bool:
    """Whether an output is that of a model with its head: T5 has no base model of its own."""
    return "last_hidden_state" not in output


@contextmanager
def _without_head(model: Any) -> Iterator[None]:
    """Let an encoder-decoder give its hidden states as logits in this block."""
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
    """What the model's own forward pass gives for a row: its logits, float32, of every place or of the whole row."""
    with running(model):
        logits: torch.Tensor = model(input_ids=torch.tensor([row], device=model.device), use_cache=False).logits
        return logits[0].float()


@torch.inference_mode()
def difference(backbone: Backbone, rows: Sequence[list[int]], expected: torch.Tensor, dtype: torch.dtype) -> str:
    """Return how the hidden states of a backbone differ from `expected`, in words; "" if they agree.

    The rows are read as one batch, and one by one, so that a prefix has to be carried from batch to batch.
    """
    prompts = [Prompt(MADE_UP, row, False) for row in rows]
    numbers = {id(prompt): number for number, prompt in enumerate(prompts)}
    for tokens in (1 << 20, 1):
        found = torch.empty_like(expected)
        try:
            for batch, _, hidden in backbone.read(prompts, ["self-check"] * len(rows), TokenBudget(tokens)):
                found[[numbers[id(prompt)] for prompt in batch]] = hidden
        except Exception as error:  # whatever code of a model raises
            return f"it fails: {first_line(error)}"
        off = relative_difference(found, expected)
        if not off <= (TOLERANCE if dtype == torch.float32 else HALF_TOLERANCE):
            return f"hidden states differ by {off:.2g} of their norm"
    return ""


def relative_difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest |found - expected| / |expected| of a row; NaN if a value is not finite."""
    return float(((found - expected).norm(dim=-1) / expected.norm(dim=-1).clamp(min=1e-9)).max())
