"""Compare a fast path with the model's own forward pass on made-up prompts, when a model is loaded.

A configuration cannot rule out that an architecture computes something otherwise (DiffLlama has the parts of a Llama
and another attention), so each path that replaces code of a model has to give the hidden states of that code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from lbr_cli.engines.local.plan import Budget
from lbr_cli.errors import MissingError, first_line

SHARED, OWN = 8, (3, 6)  # tokens that the two prompts share, and that each has alone
# how far hidden states may differ, relative to their norm; half precision differs by the order of its sums
TOLERANCE, HALF_TOLERANCE = 1e-3, 0.1


class Reader(Protocol):
    """Rows of token ids -> hidden states of their last tokens; see `prompted.Reader`."""

    def read(self, rows: Sequence[list[int]], groups: Sequence[Any], budget: Budget) -> Any: ...


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


@torch.inference_mode()
def run(model: Any, **inputs: Any) -> Any:
    """The output of a model's own code. MissingError, whatever that code raises, but for a lack of memory."""
    try:
        return model(**inputs)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise MissingError(f"a {type(model).__name__} cannot be run on a prompt: {first_line(error)}") from error


@torch.inference_mode()
def own_hidden_states(model: Any, rows: Sequence[list[int]]) -> torch.Tensor:
    """[rows, size], float32: what the model's own code makes of the last token of each row, read alone.

    Of an encoder-decoder it is the first token of the decoder.
    """
    states = []
    for row in rows:
        inputs: dict[str, Any] = {"input_ids": torch.tensor([row], device=model.device)}
        if model.config.is_encoder_decoder:
            inputs["decoder_input_ids"] = torch.zeros(1, 1, dtype=torch.long, device=model.device)
        output = run(model.base_model, **inputs, use_cache=False)
        states.append(output.last_hidden_state[0, -1].float())
    return torch.stack(states)


@torch.inference_mode()
def difference(reader: Reader, rows: Sequence[list[int]], expected: torch.Tensor, dtype: torch.dtype) -> str:
    """How the hidden states of a reader differ from `expected`, in words; "" if they agree.

    The rows are read as one batch, and one by one, where a prefix has to go on from batch to batch.
    """
    for tokens in (1 << 20, 1):
        try:
            batches = list(reader.read(rows, ["self-check"] * len(rows), Budget(tokens)))
        except Exception as error:  # whatever code of a model raises
            return f"it fails: {first_line(error)}"
        found = torch.empty_like(expected)
        for places, hidden in batches:
            found[places] = hidden
        off = relative_difference(found, expected)
        if not off <= (TOLERANCE if dtype == torch.float32 else HALF_TOLERANCE):
            return f"hidden states differ by {off:.2g} of their norm"
    return ""


def relative_difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest |found - expected| / |expected| of a row; NaN if a value is not finite."""
    return float(((found - expected).norm(dim=-1) / expected.norm(dim=-1).clamp(min=1e-9)).max())
