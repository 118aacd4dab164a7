"""The files that sentence-transformers adds to a model folder: its modules, model type, prompts and similarity.

`modules.json` lists the modules of a model with the full names of their classes; `config_sentence_transformers.json`
holds the type of the model, its prompts and its similarity. Formats as of sentence-transformers 6.2. Folders that lbr
would read differently from that library raise an error.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from lbr_cli.errors import MissingError
from lbr_cli.models.json_file import JsonFile, kind_of, read_json

MODULES = "modules.json"
CONFIG = "config_sentence_transformers.json"
# the configuration of the Transformer module; the first of these files that exists and is not empty counts
TRANSFORMER_CONFIGS = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# keys of it that change the input or the weights, and the values without an effect
TRANSFORMER_DEFAULTS: dict[str, object] = {
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
    "tokenizer_name_or_path": None,
    "processing_kwargs": {},
    "query_expansion": None,
}
TRANSFORMER_OPTIONS = (
    "model_args",
    "model_kwargs",
    "tokenizer_args",
    "processor_kwargs",
    "config_args",
    "config_kwargs",
)
# options that change neither the input nor the weights; sentence-transformers ignores the first one
HARMLESS_OPTIONS = {"trust_remote_code", "torch_dtype", "dtype", "attn_implementation"}
PACKAGE = "sentence_transformers."  # prefix of the library's own classes
BI_ENCODER, CROSS_ENCODER = "SentenceTransformer", "CrossEncoder"
UNSUPPORTED = "which this version of lbr does not support"


class Module(NamedTuple):
    """A module of a model: the name of its class without the package, and its folder."""

    kind: str
    folder: Path


def read_modules(folder: Path) -> list[Module]:
    """Return the modules that `modules.json` lists, in order; none if there is no such file.

    Raises MissingError for a module class that is not from sentence-transformers, but from code in the repository.
    """
    path = folder / MODULES
    if not path.exists():
        return []
    listed = read_json(path)
    if not isinstance(listed, list):
        raise MissingError(f"{path}: a JSON array is needed, this is {kind_of(listed)}")
    modules = []
    for number, module in enumerate(listed):
        name, subfolder = (module.get("type"), module.get("path")) if isinstance(module, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(subfolder, str):
            raise MissingError(f'{path}: module {number}: "type" and "path" have to be strings')
        if not name.startswith(PACKAGE):
            problem = f"a class that is not part of sentence-transformers, {UNSUPPORTED}"
            raise MissingError(f'{path}: module {number}: "type" is {name}, {problem}')
        modules.append(Module(name.rpartition(".")[2], folder / subfolder))
    return modules


def model_type(folder: Path) -> str:
    """Return the class of sentence-transformers that wrote the folder, SentenceTransformer by default."""
    return JsonFile(folder / CONFIG, optional=True).string("model_type") or BI_ENCODER


def has_pooling(folder: Path) -> bool:
    """Return whether the folder holds a bi-encoder, according to its modules."""
    return any(module.kind == "Pooling" for module in read_modules(folder))


def transformer_config(folder: Path) -> JsonFile:
    """Return the configuration of the Transformer module in `folder`, empty if there is none."""
    files = [JsonFile(folder / name, optional=True) for name in TRANSFORMER_CONFIGS]
    return next((file for file in files if file.keys), files[0])


def feature_extraction_config(folder: Path) -> JsonFile:
    """Return the configuration of a Transformer module that gives token embeddings of plain texts.

    Raises MissingError for a key that would change the tokens or the weights and that lbr does not support.
    """
    config = transformer_config(folder)
    if "message" in config.object("modality_config"):
        raise config.error("modality_config", f'has "message": texts become chat messages, {UNSUPPORTED}')
    for key, default in TRANSFORMER_DEFAULTS.items():
        value = config.value(key)
        if value is not None and value != default:
            raise config.error(key, f"is {json.dumps(value)}, {UNSUPPORTED}")
    for key in TRANSFORMER_OPTIONS:
        if others := sorted(set(config.object(key)) - HARMLESS_OPTIONS):
            raise config.error(key, f"has {', '.join(others)}, {UNSUPPORTED}")
    limit = positive(config, "max_seq_length")
    for key in ("query_length", "document_length"):
        length = positive(config, key)
        if limit is not None and length is not None and length > limit:
            raise config.error(key, f'is {length}, more than "max_seq_length" ({limit}), {UNSUPPORTED}')
    return config


def truncated_size(folder: Path) -> int | None:
    """Return `truncate_dim`, the number of leading components of a vector that are compared; None for all."""
    return positive(JsonFile(folder / CONFIG, optional=True), "truncate_dim")


def positive(config: JsonFile, key: str) -> int | None:
    """Return an integer of at least 1, None if the key is absent."""
    value = config.integer(key)
    if value is not None and value < 1:
        raise config.error(key, f"has to be at least 1, this is {value}")
    return value


def check_bi_encoder(folder: Path) -> None:
    """Raise MissingError for a folder whose vectors would differ from those of sentence-transformers."""
    config = JsonFile(folder / CONFIG, optional=True)
    kind = model_type(folder)
    if kind != BI_ENCODER:
        modules = ", ".join(module.kind for module in read_modules(folder))
        raise config.error("model_type", f"is {kind}, with the modules {modules}, {UNSUPPORTED}")


def check_cross_encoder(folder: Path) -> None:
    """Raise MissingError for a folder whose pairs lbr would read differently from sentence-transformers."""
    modules = read_modules(folder)
    if not modules:
        return
    config = JsonFile(folder / CONFIG, optional=True)
    kind = model_type(folder)
    if kind not in (BI_ENCODER, CROSS_ENCODER):
        raise config.error("model_type", f"is {kind}, {UNSUPPORTED}")
    kinds = [module.kind for module in modules]
    if kinds != ["Transformer"]:
        raise MissingError(f"{folder / MODULES}: a cross-encoder with the modules {', '.join(kinds)}, {UNSUPPORTED}")
    prompts, default = config.texts("prompts"), config.string("default_prompt_name")
    if default is not None and prompts.get(default) != "":
        message = f"is {default!r}: a prompt is added to each pair, {UNSUPPORTED}"
        hint = "" if default in prompts else f'"prompts" has {", ".join(map(repr, prompts)) or "no prompt"}'
        raise config.error("default_prompt_name", message, hint=hint)
    transformer = transformer_config(modules[0].folder)
    if "message" in transformer.object("modality_config"):
        raise transformer.error("modality_config", f'has "message": pairs become chat messages, {UNSUPPORTED}')
