"""The architecture BERT: an encoder, and the same under the head of a classifier, without transformers' model code.

transformers imports torch's compiler, scipy and hundreds of modules with any model, which takes several times as long
as ten scores. So the architecture of small cross-encoders and bi-encoders is computed here, with the modules, the names
of tensors and the operations of `BertModel` and `BertForSequenceClassification`. Only a folder whose configuration and
weights hold nothing else is read in this way; transformers loads every other one, and reports what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lbr_cli.engines.pretrained import load_config
from lbr_cli.models import LocalModel
from lbr_cli.models.digests import read_leniently

ENCODER, CLASSIFIER = "AutoModel", "AutoModelForSequenceClassification"
WEIGHTS = "model.safetensors"
# values of config.json with which a BERT computes what this module computes; an absent key has the same meaning
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
# keys that the code below reads from the configuration
READ = {
    *("model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("max_position_embeddings", "type_vocab_size", "layer_norm_eps", "id2label", "num_labels", "label2id"),
}
# keys that have no effect on hidden states and logits
IGNORED = {
    *("_name_or_path", "architectures", "transformers_version", "torch_dtype", "dtype", "use_cache", "pad_token_id"),
    *("bos_token_id", "eos_token_id", "initializer_range", "gradient_checkpointing", "problem_type", "finetuning_task"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "sentence_transformers"),
}


@dataclass(frozen=True, slots=True)
class Output:
    """The hidden states of an encoder, [rows, tokens, size], or the logits of a classifier, [rows, labels]."""

    last_hidden_state: torch.Tensor | None = None
    logits: torch.Tensor | None = None


class Bert(nn.Module):
    """An encoder. `config` has the fields of transformers' `BertConfig`."""

    base_model_prefix = "bert"
    _keep_in_fp32_modules = None  # an attribute of models of transformers

    def __init__(self, config: Any, *, pooled: bool = False) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = Layers(config)
        if pooled:
            self.pooler = nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.hidden_size)})

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
    ) -> Output:
        """[rows, tokens] each; the mask is 0 for padding, and the types are 0 by default."""
        mask = None
        if attention_mask is not None and not bool(attention_mask.all()):
            mask = attention_mask.bool()[:, None, None]
        return Output(last_hidden_state=self.encoder(self.embeddings(input_ids, token_type_ids), mask))

    @property
    def base_model(self) -> Bert:
        return self

    @property
    def device(self) -> torch.device:
        return self.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.get_input_embeddings().weight.dtype

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings.word_embeddings


class BertClassifier(nn.Module):
    """An encoder under a pooler and a linear head."""

    base_model_prefix = "bert"
    _keep_in_fp32_modules = None

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.bert = Bert(config, pooled=True)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
    ) -> Output:
        """[rows, tokens] each, as for the encoder."""
        first = self.bert(input_ids, attention_mask, token_type_ids).last_hidden_state[:, 0]
        return Output(logits=self.classifier(torch.tanh(self.bert.pooler["dense"](first))))

    @property
    def base_model(self) -> Bert:
        return self.bert

    @property
    def device(self) -> torch.device:
        return self.bert.device

    @property
    def dtype(self) -> torch.dtype:
        return self.bert.dtype

    def get_input_embeddings(self) -> nn.Embedding:
        return self.bert.get_input_embeddings()


class Embeddings(nn.Module):
    """Words, types and positions -> hidden states."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.word_embeddings = _table(config.vocab_size, config.hidden_size)
        self.position_embeddings = _table(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = _table(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, ids: torch.Tensor, types: torch.Tensor | None) -> torch.Tensor:
        """[rows, tokens] -> [rows, tokens, size]"""
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        words = self.word_embeddings(ids) + self.token_type_embeddings(
            torch.zeros_like(ids) if types is None else types
        )
        return self.LayerNorm(words + self.position_embeddings(positions))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Attention of all tokens to all that are not padding."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        size = config.hidden_size
        self.heads = config.num_attention_heads
        self.self = nn.ModuleDict({name: nn.Linear(size, size) for name in ("query", "key", "value")})
        self.output = Residual(size, size, config.layer_norm_eps)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """[rows, tokens, size] -> the same; the mask is [rows, 1, 1, tokens]."""
        rows, tokens, size = hidden.shape
        shape = (rows, tokens, self.heads, size // self.heads)
        query, key, value = (self.self[name](hidden).view(shape).transpose(1, 2) for name in ("query", "key", "value"))
        attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.output(attended.transpose(1, 2).reshape(rows, tokens, size), hidden)  # type: ignore[no-any-return]


class Residual(nn.Module):
    """A linear layer, whose result is added to a residual and normalized."""

    def __init__(self, inputs: int, size: int, eps: float) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, size)
        self.LayerNorm = nn.LayerNorm(size, eps=eps)

    def forward(self, inputs: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.dense(inputs) + residual)  # type: ignore[no-any-return]


class Layer(nn.Module):
    """Attention, then the same two-layer network for each token."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.intermediate_size)})
        self.output = Residual(config.intermediate_size, config.hidden_size, config.layer_norm_eps)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        hidden = self.attention(hidden, mask)
        return self.output(nn.functional.gelu(self.intermediate["dense"](hidden)), hidden)  # type: ignore[no-any-return]


class Layers(nn.Module):
    """The layers of an encoder, one after another."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        for layer in self.layer:
            hidden = layer(hidden, mask)
        return hidden


def _table(rows: int, size: int) -> nn.Embedding:
    """Return a table of vectors without initial values: those of `nn.Embedding` would import torch's compiler."""
    return nn.Embedding.from_pretrained(torch.empty(rows, size))  # type: ignore[no-untyped-call, no-any-return]


def load_bert(kind: str, model: LocalModel, device: torch.device, dtype: torch.dtype) -> Bert | BertClassifier | None:
    """Return a BERT, ready for inference; None for a folder with anything that this module does not compute.

    `kind` is the name of the Auto class of transformers that would load it.
    """
    if model.gguf or model.base or kind not in (ENCODER, CLASSIFIER) or not _is_known(model.folder):
        return None
    config = load_config(model)
    if config.hidden_size % config.num_attention_heads:
        return None
    with torch.device("meta"):
        loaded = Bert(config) if kind == ENCODER else BertClassifier(config)
    tensors = _read(model.folder / WEIGHTS, loaded.state_dict(), dtype)
    if tensors is None:
        return None
    loaded.load_state_dict(tensors, assign=True)
    return loaded.eval().requires_grad_(False).to(device)


def _is_known(folder: Path) -> bool:
    """Return whether a configuration has nothing that this module does not compute."""
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
