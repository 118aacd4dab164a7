"""BERT for CPUs: an encoder, alone or under the head of a classifier.

Modules, names of tensors and operations are those of `BertModel` and `BertForSequenceClassification` of transformers.
The texts of a batch are computed end to end, without padding: hidden states are [tokens, size], and attention is
computed text by text, which on a CPU is faster than masked attention. The head of a classifier reads only the first
token of each text, so the last layer computes only these tokens.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn


@dataclass(frozen=True, slots=True)
class Output:
    """The hidden states of an encoder, [rows, tokens, size], or the logits of a classifier, [rows, labels]."""

    last_hidden_state: torch.Tensor | None = None
    logits: torch.Tensor | None = None


class AnyBert(nn.Module):
    """What both models share. `config` has the fields of transformers' `BertConfig`."""

    base_model_prefix = "bert"
    _keep_in_fp32_modules = None  # an attribute of all models of transformers

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @property
    def base_model(self) -> Bert:
        """The encoder, which may be this model itself."""
        return getattr(self, self.base_model_prefix, self)  # type: ignore[arg-type]

    @property
    def device(self) -> torch.device:
        return self.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.get_input_embeddings().weight.dtype

    def get_input_embeddings(self) -> nn.Embedding:
        return self.base_model.embeddings.word_embeddings


class Bert(AnyBert):
    """An encoder."""

    def __init__(self, config: Any, *, pooled: bool = False) -> None:
        super().__init__(config)
        self.embeddings = Embeddings(config)
        self.encoder = Layers(config)
        if pooled:
            self.pooler = nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.hidden_size)})

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        kept: torch.Tensor | None = None,
    ) -> Output:
        """Return the hidden states. Arguments are [rows, tokens] each; the types are 0 by default.

        No token attends to tokens with mask 0. `kept` is 0 for padding, whose states are 0 in the output; it is the
        mask by default.
        """
        texts = Texts(input_ids, attention_mask, kept)
        hidden = self.encoder(self.embeddings(texts.packed(input_ids), texts, token_type_ids), texts)
        return Output(last_hidden_state=texts.padded(hidden))

    def first_states(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None, token_type_ids: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the last hidden state of the first token of each text, [rows, size]."""
        texts = Texts(input_ids, attention_mask)
        return self.encoder(  # type: ignore[no-any-return]
            self.embeddings(texts.packed(input_ids), texts, token_type_ids), texts, first_only=True
        )


class BertClassifier(AnyBert):
    """An encoder under a pooler and a linear head."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.bert = Bert(config, pooled=True)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
    ) -> Output:
        """Return the logits. Arguments are [rows, tokens] each, as for the encoder."""
        first = self.bert.first_states(input_ids, attention_mask, token_type_ids)
        return Output(logits=self.classifier(torch.tanh(self.bert.pooler["dense"](first))))


class EqualTexts(NamedTuple):
    """Neighbouring texts of equal length: their packed tokens and their rows.

    `mask` [texts, 1, 1, tokens of a text] is False for tokens that no token attends to; None if all are attended to.
    """

    tokens: slice
    rows: slice
    mask: torch.Tensor | None

    @property
    def size(self) -> int:
        """The number of texts."""
        return int(self.rows.stop - self.rows.start)


class Texts:
    """The positions of the texts of a padded batch among the packed tokens, one text after the other.

    `groups` are neighbouring texts of equal length; `starts` [rows] are the positions of the first tokens.
    """

    def __init__(self, ids: torch.Tensor, mask: torch.Tensor | None, kept: torch.Tensor | None = None) -> None:
        """Find the texts of [rows, tokens] each, as in `Bert.forward`; a token of each row is kept and attended to."""
        self.shape = ids.shape
        attended = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
        self.kept = attended if kept is None else kept.bool()
        lengths = self.kept.sum(1)
        self.starts = lengths.cumsum(0) - lengths
        self.groups = self._groups(lengths.tolist(), self.packed(attended))

    @staticmethod
    def _groups(lengths: list[int], attended: torch.Tensor) -> list[EqualTexts]:
        groups = []
        token = row = 0
        for length, equal in itertools.groupby(lengths):
            count = len([*equal])
            tokens, rows = slice(token, token + length * count), slice(row, row + count)
            mask = None if bool(attended[tokens].all()) else attended[tokens].view(count, 1, 1, length)
            groups.append(EqualTexts(tokens, rows, mask))
            token, row = tokens.stop, rows.stop
        return groups

    def packed(self, values: torch.Tensor) -> torch.Tensor:
        """Return the kept values: [rows, tokens] -> [packed tokens]."""
        return values[self.kept]

    def padded(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the states with padding: [packed tokens, size] -> [rows, tokens, size]."""
        padded = hidden.new_zeros(*self.shape, hidden.shape[-1])
        padded[self.kept] = hidden
        return padded


class Embeddings(nn.Module):
    """Words, types and positions -> hidden states."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.word_embeddings = _table(config.vocab_size, config.hidden_size)
        self.position_embeddings = _table(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = _table(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, ids: torch.Tensor, texts: Texts, types: torch.Tensor | None) -> torch.Tensor:
        """Return hidden states: [packed tokens] -> [packed tokens, size]; the types are [rows, tokens]."""
        positions = texts.packed(torch.arange(texts.shape[1]).expand(texts.shape))
        packed_types = torch.zeros_like(ids) if types is None else texts.packed(types)
        sums = self.word_embeddings(ids).add_(self.token_type_embeddings(packed_types))
        return self.LayerNorm(sums.add_(self.position_embeddings(positions)))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Attention of the tokens of each text to each other."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        size = config.hidden_size
        self.heads = config.num_attention_heads
        self.self = nn.ModuleDict({name: nn.Linear(size, size) for name in ("query", "key", "value")})
        self.output = Residual(size, size, config.layer_norm_eps)

    def forward(self, hidden: torch.Tensor, texts: Texts, *, first_only: bool) -> torch.Tensor:
        """Return hidden states like `hidden`, [packed tokens, size], or [rows, size] with `first_only`."""
        computed = hidden[texts.starts] if first_only else hidden
        query, key, value = self.self["query"](computed), self.self["key"](hidden), self.self["value"](hidden)
        outputs = []
        for group in texts.groups:
            keys, values = (self._of_texts(part[group.tokens], group.size) for part in (key, value))
            queries = self._of_texts(query[group.rows if first_only else group.tokens], group.size)
            states = nn.functional.scaled_dot_product_attention(queries, keys, values, group.mask)
            outputs.append(states.transpose(1, 2).reshape(-1, hidden.shape[1]))
        return self.output(torch.cat(outputs), computed)  # type: ignore[no-any-return]

    def _of_texts(self, tokens: torch.Tensor, count: int) -> torch.Tensor:
        """Split texts and heads: [tokens, size] -> [count, heads, tokens of a text, size of a head]."""
        return tokens.view(count, -1, self.heads, tokens.shape[1] // self.heads).transpose(1, 2)


class Residual(nn.Module):
    """A linear layer, whose result is added to a residual and normalized."""

    def __init__(self, inputs: int, size: int, eps: float) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, size)
        self.LayerNorm = nn.LayerNorm(size, eps=eps)

    def forward(self, inputs: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.dense(inputs).add_(residual))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """Attention, then a network of two layers that reads each token alone."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.intermediate_size)})
        self.output = Residual(config.intermediate_size, config.hidden_size, config.layer_norm_eps)

    def forward(self, hidden: torch.Tensor, texts: Texts, *, first_only: bool) -> torch.Tensor:
        hidden = self.attention(hidden, texts, first_only=first_only)
        inner = torch.ops.aten.gelu_(self.intermediate["dense"](hidden))  # in place: the values do not fit in the cache
        return self.output(inner, hidden)  # type: ignore[no-any-return]


class Layers(nn.Module):
    """The layers of an encoder, one after another."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))

    def forward(self, hidden: torch.Tensor, texts: Texts, *, first_only: bool = False) -> torch.Tensor:
        """Return the last hidden states: [packed tokens, size], or [rows, size] with `first_only`."""
        for number, layer in enumerate(self.layer, 1):
            hidden = layer(hidden, texts, first_only=first_only and number == len(self.layer))
        return hidden


def _table(rows: int, size: int) -> nn.Embedding:
    """Return an embedding without initial values: `nn.Embedding` would import torch's compiler to compute them."""
    return nn.Embedding.from_pretrained(torch.empty(rows, size))  # type: ignore[no-untyped-call, no-any-return]
