"""Every causal architecture of transformers, tiny: the scores of its own code, or a refusal."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from lbr_cli.errors import LbrError
from lbr_cli.families.lb import SYSTEM
from support.plain_loop import PAIRS, engine, scores
from support.tokenizers import chat_tokenizer

PARTS = 6
NAMES = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
LEAST_BUILT = 0.5  # share of the architectures; the others have parts that SIZES does not make small
LARGEST = 3_000_000  # parameters
TOLERANCE = 1e-3
SOME_PAIRS = PAIRS[1::6]
# a size, and its names in configurations
SIZES = """
32 hidden_size d_model n_embd dim embed_dim n_embed word_embed_proj_dim lru_width moe_intermediate_size
64 intermediate_size ffn_dim n_inner d_ff decoder_ffn_dim encoder_ffn_dim ffn_hidden_size
2 num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers num_decoder_layers num_encoder_layers
2 num_experts_per_tok moe_k num_key_value_heads n_kv_heads
4 num_attention_heads n_head n_heads num_heads decoder_attention_heads encoder_attention_heads
4 num_local_experts num_experts n_routed_experts moe_num_experts
16 q_lora_rank kv_lora_rank
8 head_dim qk_rope_head_dim qk_nope_head_dim v_head_dim rotary_dim state_size ssm_state_size
8 mamba_d_state mamba_n_heads mamba_d_head mamba_num_heads mamba_head_dim
1 n_shared_experts n_group topk_group mamba_n_groups
1024 max_position_embeddings n_positions max_seq_len n_ctx
0.3 initializer_range init_std
0 pad_token_id attention_dropout
"""
LEFT_OUT: tuple[tuple[str, ...], ...] = ((), ("head_dim",), ("num_key_value_heads", "head_dim"), ("q_lora_rank",))


def sizes() -> Iterator[tuple[str, float]]:
    for line in SIZES.strip().splitlines():
        size, *names = line.split()
        yield from ((name, float(size) if "." in size else int(size)) for name in names)


def own_scores(folder: Path) -> list[float]:
    """Return the expected digit by the model's own forward pass, prompt by prompt."""
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    digits = [tokenizer.encode(str(digit))[0] for digit in range(1, 8)]
    found = []
    for query, document in SOME_PAIRS:
        texts = {"system": SYSTEM, "user": f"<<<Query>>>\n{query}\n\n<<<Context>>>\n{document}"}
        messages = [{"role": role, "content": text} for role, text in texts.items()]
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            probabilities = model(input_ids=ids, use_cache=False).logits[0, -1].softmax(-1)[digits]
        found.append(sum(digit * p for digit, p in enumerate(probabilities.tolist(), 1)))
    return found


def built(name: str, tokenizer: Any, folder: Path) -> bool:
    """Save a model of that architecture with random weights; False if no rule above makes one small enough."""
    kind = transformers.CONFIG_MAPPING[name]
    for left_out in LEFT_OUT:
        try:
            default = kind()
            small = {
                key: size for key, size in sizes() if key not in left_out and getattr(default, key, None) is not None
            }
            config = kind(**small, vocab_size=len(tokenizer))
            model_class = getattr(transformers, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[name])
            with torch.device("meta"):
                if sum(weight.numel() for weight in model_class(config).parameters()) > LARGEST:
                    continue
            torch.manual_seed(3)
            model = model_class(config).eval()
            with torch.inference_mode():
                model(torch.arange(5, 25)[None], use_cache=False)
            model.save_pretrained(folder)
        except Exception:  # the configuration does not support these sizes
            continue
        tokenizer.save_pretrained(folder)
        return True
    return False


def problem(folder: Path) -> str:
    """Return how lbr fails on a model; "" for correct scores and for a refusal."""
    try:
        ours = scores(engine(folder, device="cpu", dtype="float32"), SOME_PAIRS)
    except LbrError as error:
        return "" if error.exit_code == 2 else f"exit code {error.exit_code}: {error}"
    except Exception as error:  # a user would see a traceback
        return f"{type(error).__name__}: {error}"
    theirs = own_scores(folder)
    off = max(abs(one - other) / max(abs(other), 1e-6) for one, other in zip(ours, theirs, strict=True))
    return "" if off <= TOLERANCE else f"a score differs by {off:.2g}"


@pytest.mark.weekly
@pytest.mark.parametrize("part", range(PARTS))
def test_every_causal_architecture_scores_like_its_own_code_or_is_refused(part: int, tmp_path: Path) -> None:
    names = NAMES[part::PARTS]
    tokenizer = chat_tokenizer()
    problems = {}
    count = 0
    for name in names:
        with warnings.catch_warnings(action="ignore"):
            if built(name, tokenizer, tmp_path / name):
                count += 1
                problems[name] = problem(tmp_path / name)
    assert {name: what for name, what in problems.items() if what} == {}
    assert count >= LEAST_BUILT * len(names)
