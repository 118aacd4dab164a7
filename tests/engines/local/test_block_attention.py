"""Attention in blocks: causal attention, with the same bits for a token in any batch."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import pad, scaled_dot_product_attention

from lbr_cli.engines.local.block_attention import BLOCK, attend, attend_last, padded_length

HEADS, KEY_HEADS, SIZE = 4, 2, 16


def tensors(tokens: int, seed: int) -> list[torch.Tensor]:
    """Return the queries, keys and values of a prompt, [heads, tokens, size] each."""
    generator = torch.Generator().manual_seed(seed)
    return [3 * torch.randn(heads, tokens, SIZE, generator=generator) for heads in (HEADS, KEY_HEADS, KEY_HEADS)]


def computed(prompts: list[list[torch.Tensor]], begin: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return attention of the tokens from the block of `begin`, [heads, tokens, size] each, and of the last tokens."""
    lengths = [prompt[0].shape[1] for prompt in prompts]
    end, start = padded_length(max(lengths)), begin // BLOCK * BLOCK
    query, key, value = (
        torch.stack(
            [pad(part, (0, 0, 0, end - length), value=1.0) for part, length in zip(parts, lengths, strict=True)]
        )
        for parts in zip(*prompts, strict=True)
    )
    states = attend(query[:, :, start:], key, value, lengths, SIZE**-0.5)
    last = torch.stack([prompt[0][:, -1] for prompt in prompts])
    rows = [state[:, begin - start : length - start] for state, length in zip(states, lengths, strict=True)]
    return rows, attend_last(last, key, value, lengths, SIZE**-0.5)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 150), min_size=1, max_size=6), st.data())
def test_a_token_has_the_same_attention_in_any_batch(lengths: list[int], data: st.DataObject) -> None:
    prompts = [tensors(length, seed) for seed, length in enumerate(lengths)]
    begin = data.draw(st.integers(0, min(lengths) - 1))
    rows, last = computed(prompts, begin)
    for prompt, of_prompt, of_last in zip(prompts, rows, last, strict=True):
        (alone,), _ = computed([prompt], 0)
        expected = scaled_dot_product_attention(*(part[None] for part in prompt), is_causal=True, enable_gqa=True)[0]
        torch.testing.assert_close(alone, expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(of_prompt, alone[:, begin:])
        assert torch.equal(of_last, alone[:, -1])


def test_a_prefix_has_the_same_attention_without_the_tokens_behind_it() -> None:
    prompt = tensors(200, 0)
    prefix = [part[:, :75] for part in prompt]
    (whole,), _ = computed([prompt], 0)
    (alone,), _ = computed([prefix], 0)
    assert torch.equal(alone, whole[:, :75])
