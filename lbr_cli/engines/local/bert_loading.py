"""Load BERT without transformers' model code, which imports torch's compiler, scipy and hundreds of modules.

These imports take several times as long as ten scores. A folder is read here only if `bert.py` computes everything in
its configuration and weights; transformers loads every other folder, and reports its errors. For accelerators, on
which many small calls are slow, transformers loads every model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lbr_cli.engines.local.bert import Bert, BertClassifier
from lbr_cli.engines.pretrained import load_config
from lbr_cli.models import LocalModel
from lbr_cli.models.digests import read_leniently

ENCODER, CLASSIFIER = "AutoModel", "AutoModelForSequenceClassification"
WEIGHTS = "model.safetensors"
# the values of config.json that `bert.py` implements; an absent key means the same
VALUES: dict[str, Any] = {
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "is_encoder_decoder": False,
    "add_cross_attention": False,
    "chunk_size_feed_forward": 0,
    "pruned_heads": {},
    "tie_word_embeddings": True,  # of the head of a masked language model, which is not computed
}
# keys that `bert.py` and this module read from the configuration
READ = {
    *("model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("max_position_embeddings", "type_vocab_size", "layer_norm_eps", "id2label", "num_labels", "label2id"),
}
# keys that have no effect on hidden states and logits
IGNORED = {
    *("_name_or_path", "architectures", "transformers_version", "torch_dtype", "dtype", "use_cache", "pad_token_id"),
    *("bos_token_id", "eos_token_id", "initializer_range", "gradient_checkpointing", "problem_type", "finetuning_task"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "sentence_transformers"),
    *("return_dict", "output_attentions", "output_hidden_states"),
}


def load_bert(kind: str, model: LocalModel, device: torch.device, dtype: torch.dtype) -> Bert | BertClassifier | None:
    """Return a BERT, ready for inference on a CPU; None for another device or a folder that transformers has to load.

    `kind` is the name of the Auto class of transformers that would load it.
    """
    if (
        device.type != "cpu"
        or model.gguf
        or model.base
        or kind not in (ENCODER, CLASSIFIER)
        or not _is_known(model.folder)
    ):
        return None
    config = load_config(model)
    if config.num_hidden_layers < 1 or config.hidden_size % config.num_attention_heads:
        return None
    with torch.device("meta"):
        loaded = Bert(config) if kind == ENCODER else BertClassifier(config)
    tensors = _read(model.folder / WEIGHTS, loaded.state_dict(), dtype)
    if tensors is None:
        return None
    loaded.load_state_dict(tensors, assign=True)
    return loaded.eval().requires_grad_(False)


def _is_known(folder: Path) -> bool:
    """Return whether `bert.py` computes everything in the configuration of a folder."""
    config = read_leniently(folder / "config.json")
    if not isinstance(config, dict) or config.get("model_type") != "bert" or {*config} - {*VALUES} - READ - IGNORED:
        return False
    return all(config.get(key, value) == value for key, value in VALUES.items())


def _read(path: Path, needed: Mapping[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor] | None:
    """Read the tensors of a model by their names; None if one is missing or has another shape.

    An encoder may be stored alone, or as `bert` of a model with a head. Values are copied, because the file could
    change while it is mapped into memory.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            stored = set(file.keys())
            prefixes = [prefix for prefix in ("", "bert.") if all(prefix + name in stored for name in needed)]
            if len(prefixes) != 1:
                return None
            tensors = {name: file.get_tensor(prefixes[0] + name).to(dtype, copy=True) for name in needed}
    except (OSError, SafetensorError):
        return None
    return tensors if all(tensor.shape == needed[name].shape for name, tensor in tensors.items()) else None
