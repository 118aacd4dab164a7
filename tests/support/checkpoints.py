"""Tiny checkpoints with random weights, one for each architecture of rerankers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from support.tokenizers import WORDS, chat_tokenizer

MAX_POSITIONS = 512  # maximum length of the models; their tokenizers set no limit
PROMPT_WORDS = (
    "Judge whether the Document meets requirements Instruct Query Note answer can only be yes no Yes\nyes\nno\nYes"
)
TEXT = (WORDS, *([PROMPT_WORDS] * 9))
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.3,
    "max_position_embeddings": MAX_POSITIONS,
    "num_key_value_heads": 2,
    "head_dim": 8,
}


def bytes_tokenizer(*, framed: bool = False, **options: Any) -> Any:
    """Return a byte-level BPE tokenizer with Qwen's special tokens, without a template, a limit or a pad token.

    With `framed`, it adds special tokens around a text. `options` are attributes of the tokenizer.
    """
    tokenizer = chat_tokenizer(TEXT)
    tokenizer.chat_template = None
    tokenizer.add_tokens(["<think>", "</think>"])
    if framed:
        ends = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<|im_start|>", "<|im_end|>")]
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<|im_start|> $A <|im_end|>", pair="<|im_start|> $A <|im_end|> $B <|im_end|>", special_tokens=ends
        )
    for name, value in options.items():
        setattr(tokenizer, name, value)
    return tokenizer


def bos_tokenizer() -> Any:
    """Return `bytes_tokenizer` with a BOS token, which it does not add by itself, and a pad token."""
    tokenizer = bytes_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<bos>", "pad_token": "<pad>"})
    return tokenizer


def pieces_tokenizer(*, roberta: bool = False) -> Any:
    """Return a unigram tokenizer like SentencePiece, with the special tokens of T5 or of XLM-RoBERTa."""
    letters = {letter for text in TEXT for letter in text} | set("0123456789.,:?!<|>/_[]()'-")
    words = {f"▁{word}" for text in TEXT for word in text.split()}
    first = ["<s>", "<pad>", "</s>", "<unk>"] if roberta else ["<pad>", "</s>", "<unk>"]
    rest = [f"▁{word}" for word in ("true", "false", "yes", "no", "Query:", "Document:", "Relevant:")]
    pieces = dict.fromkeys([*first, *rest, *sorted(words), "▁", *sorted(letters - {" "})])
    scores = [(piece, 0.0 if piece in first else -2.0 - 8.0 * (len(piece) == 1)) for piece in pieces]
    inner = Tokenizer(models.Unigram(scores, unk_id=first.index("<unk>")))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    ends = [("<s>", 0), ("</s>", 2)] if roberta else [("</s>", 1)]
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if roberta else "$A </s>",
        pair="<s> $A </s> </s> $B </s>" if roberta else "$A </s> $B </s>",
        special_tokens=ends,
    )
    named = {"bos_token": "<s>", "cls_token": "<s>", "sep_token": "</s>"} if roberta else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="</s>", unk_token="<unk>", pad_token="<pad>", **named
    )


def saved(folder: Path, kind: str, config: Any, tokenizer: Any) -> Path:
    """Save a model of the class `kind` of transformers with random weights, and its tokenizer."""
    torch.manual_seed(7)
    config.vocab_size = len(tokenizer)
    model = getattr(transformers, kind)(config)
    for name, weight in model.named_parameters():
        if weight.dim() == 1 and "norm" not in name.lower():
            weight.data.normal_(0, 0.3)  # biases, which are initialised with zeros
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def causal(folder: Path, name: str, tokenizer: Any | None = None, **more: Any) -> Path:
    """Save a causal model; `name` is Qwen2, Qwen3, Gemma or Llama."""
    config = getattr(transformers, f"{name}Config")(**SIZES | more)
    return saved(folder, f"{name}ForCausalLM", config, tokenizer or bytes_tokenizer())


def t5(folder: Path, name: str = "T5", **more: Any) -> Path:
    config = getattr(transformers, f"{name}Config")(
        d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0, **more
    )
    torch.manual_seed(7)
    tokenizer = pieces_tokenizer()
    config.vocab_size = len(tokenizer)
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config)
    for weight in model.parameters():
        weight.data.normal_(1 if weight.dim() == 1 else 0, 0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def classifier(folder: Path, name: str, tokenizer: Any, labels: int = 1, **more: Any) -> Path:
    config = getattr(transformers, f"{name}Config")(**SIZES | {"num_labels": labels, "pad_token_id": None} | more)
    return saved(folder, f"{name}ForSequenceClassification", config, tokenizer)


MODULES = {
    "Transformer": "sentence_transformers.models.Transformer",
    "Pooling": "sentence_transformers.models.Pooling",
    "Dense": "sentence_transformers.models.Dense",
    "Normalize": "sentence_transformers.models.Normalize",
}


def bi_encoder(folder: Path, name: str, tokenizer: Any, *modules: dict[str, Any], **settings: Any) -> Path:
    """Save a sentence-transformers folder: `modules` after the transformer, each with its `kind` and configuration.

    `settings` are values of `config_sentence_transformers.json`.
    """
    if name == "T5Encoder":
        config = transformers.T5Config(d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    else:
        config = getattr(transformers, f"{name}Config")(**SIZES)
    if name == "Gemma3Text":
        config.use_bidirectional_attention, config.head_dim = True, 8
    saved(folder, f"{name}Model", config, tokenizer)
    listed = [{"idx": 0, "name": "0", "path": "", "type": MODULES["Transformer"]}]
    for number, module in enumerate(modules, 1):
        kind, path = module.pop("kind"), f"{number}_{module.get('kind', 'Module')}"
        listed.append({"idx": number, "name": str(number), "path": path, "type": MODULES.get(kind, kind)})
        (folder / path).mkdir()
        (folder / path / "config.json").write_text(json.dumps(module))
        if kind == "Dense":
            torch.manual_seed(number)
            size = (module["out_features"], module["in_features"])
            weights = {"linear.weight": torch.randn(size), "linear.bias": torch.randn(size[0])}
            torch.save(weights, folder / path / "pytorch_model.bin")
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 256, "do_lower_case": False}))
    if settings:
        (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    return folder


def in_older_form(folder: Path) -> Path:
    """Move the Transformer of a bi-encoder into `0_Transformer`, its weights into `pytorch_model.bin`."""
    inner = folder / "0_Transformer"
    inner.mkdir()
    for path in [path for path in folder.iterdir() if path.is_file() and path.name != "modules.json"]:
        if not path.name.startswith("config_sentence"):
            path.rename(inner / path.name)
    torch.save(load_file(inner / "model.safetensors"), inner / "pytorch_model.bin")
    (inner / "model.safetensors").unlink()
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = inner.name
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def gguf(folder: Path, path: Path, quantised: bool = False) -> Path:
    """Write a Qwen2 folder as a GGUF file: the same weights, or rounded to 8 bits in blocks of 32 (Q8_0)."""
    from gguf import GGMLQuantizationType, GGUFWriter, TokenType, get_tensor_name_map, quants
    from gguf.constants import MODEL_ARCH

    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config = model.config
    writer = GGUFWriter(path, "qwen2")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    added = tokenizer.added_tokens_decoder
    writer.add_token_list([tokenizer.convert_ids_to_tokens(i) for i in range(len(tokenizer))])
    writer.add_token_types([TokenType.CONTROL if i in added else TokenType.NORMAL for i in range(len(tokenizer))])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_chat_template(tokenizer.chat_template)
    names = get_tensor_name_map(MODEL_ARCH.QWEN2, config.num_hidden_layers)
    for name, weight in model.state_dict().items():
        stem, _, ending = name.rpartition(".")
        values = weight.float().numpy()
        name = f"{names.get_name(stem)}.{ending}"
        if quantised and values.ndim == 2:
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(name, quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
