"""The files that sentence-transformers adds to a model folder: its modules, model type, prompts and similarity.

`modules.json` lists the modules of a model with the full names of their classes; `config_sentence_transformers.json`
has the type of the model, its prompts and its similarity; `sentence_bert_config.json` configures how the first module
reads texts. Formats as of sentence-transformers 6.2. A setting that lbr would read differently raises an error.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lbr_cli.core import PairChat
from lbr_cli.errors import MissingError
from lbr_cli.models.json_file import JsonFile, kind_of, read_json

MODULES = "modules.json"
CONFIG = "config_sentence_transformers.json"
# the configuration of the Transformer module; the first of these files that exists and is not empty counts
TRANSFORMER_CONFIGS = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# keys of that configuration that change the input or the weights, and their values without an effect
TRANSFORMER_DEFAULTS: dict[str, object] = {
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
    "processing_kwargs": {},
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
SAME_CLASSES = {"pylate.models.Dense.Dense"}  # of PyLate, equal to those of this library
BI_ENCODER, CROSS_ENCODER = "SentenceTransformer", "CrossEncoder"
LATE_INTERACTION, PYLATE = "MultiVectorEncoder", "ColBERT"  # see late_interaction.py
UNSUPPORTED = "which this version of lbr does not support"
# modules after the encoder of a cross-encoder; the last one computes the score
SCORING = ("Dense", "LayerNorm")
NOT_FOR_TEMPLATES = "restore_suffix"  # a setting of sentence-transformers among the variables of the chat template


class Module(NamedTuple):
    """A module of a model: the name of its class without the package, and its folder."""

    kind: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Reading:
    """How the first module reads texts: its folder, its limit in tokens, and its chat template for pairs, if any."""

    folder: Path
    limit: int | None = None
    lower_case: bool = False
    chat: PairChat | None = None


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
        if not name.startswith(PACKAGE) and name not in SAME_CLASSES:
            problem = f"a class that is not part of sentence-transformers, {UNSUPPORTED}"
            raise MissingError(f'{path}: module {number}: "type" is {name}, {problem}')
        modules.append(Module(name.rpartition(".")[2], folder / subfolder))
    return modules


def transformer_folder(folder: Path) -> Path:
    """Return the folder of the weights and their configuration: that of the first module, or `folder`."""
    return next((module.folder for module in read_modules(folder)), folder)


def model_type(folder: Path) -> str:
    """Return the class of sentence-transformers that wrote the folder, SentenceTransformer by default.

    Raises MissingError for a class whose scores lbr cannot compute.
    """
    config = JsonFile(folder / CONFIG, optional=True)
    kind = config.string("model_type") or BI_ENCODER
    if kind not in (BI_ENCODER, CROSS_ENCODER, LATE_INTERACTION, PYLATE):
        raise config.error("model_type", f"is {kind}, {UNSUPPORTED}")
    return kind


def is_bi_encoder(folder: Path) -> bool:
    """Return whether the folder holds a bi-encoder, by its model type and its modules."""
    kinds = [module.kind for module in read_modules(folder)]
    # older versions wrote neither the type nor the modules of a cross-encoder
    return model_type(folder) == BI_ENCODER and kinds not in ([], ["Transformer"])


def transformer_config(folder: Path) -> JsonFile:
    """Return the configuration of the Transformer module in `folder`, empty if there is none."""
    files = [JsonFile(folder / name, optional=True) for name in TRANSFORMER_CONFIGS]
    return next((file for file in files if file.keys), files[0])


def feature_extraction_config(folder: Path, *, is_late: bool = False) -> JsonFile:
    """Return the configuration of a Transformer module that gives token embeddings of plain texts.

    Raises MissingError for an unsupported key that would change the tokens or the weights. If `is_late`, the module is
    that of a late-interaction model.
    """
    config = transformer_config(folder)
    if "message" in config.object("modality_config"):
        raise config.error("modality_config", f'has "message": texts become chat messages, {UNSUPPORTED}')
    for key, default in TRANSFORMER_DEFAULTS.items():
        if config.value(key) not in (None, default):
            raise config.error(key, f"is {json.dumps(config.value(key))}, {UNSUPPORTED}")
    check_options(config, is_late=is_late)
    return config


def bi_encoder_config(folder: Path) -> JsonFile:
    """Return the configuration of the Transformer module of a bi-encoder, as `feature_extraction_config` does.

    Raises MissingError also for a length of queries or documents beyond the maximum length.
    """
    config = feature_extraction_config(folder)
    limit = positive(config, "max_seq_length")
    for key in ("query_length", "document_length"):
        length = positive(config, key)
        if limit is not None and length is not None and length > limit:
            raise config.error(key, f'is {length}, more than "max_seq_length" ({limit}), {UNSUPPORTED}')
    return config


def check_options(config: JsonFile, *, is_late: bool) -> None:
    """Raise MissingError for an option of the first module that lbr does not support.

    If `is_late`, the module is that of a late-interaction model, which may expand queries.
    """
    never_set = ["tokenizer_name_or_path"] if is_late else ["tokenizer_name_or_path", "query_expansion"]
    for key in never_set:
        if config.value(key) is not None:
            raise config.error(key, f"is {json.dumps(config.value(key))}, {UNSUPPORTED}")
    for key in TRANSFORMER_OPTIONS:
        if others := sorted(set(config.object(key)) - HARMLESS_OPTIONS):
            raise config.error(key, f"has {', '.join(others)}, {UNSUPPORTED}")


def check_names(config: JsonFile, reads: str, writes: str, default: str | None = None) -> None:
    """Raise MissingError for a module whose input is not `reads`, or whose output is not `writes`.

    A module without names reads `default`, which is `reads` if it is None, and writes under the name that it reads.
    """
    source = config.string("module_input_name") or default or reads
    target = config.string("module_output_name") or source
    for key, name, supported in (("module_input_name", source, reads), ("module_output_name", target, writes)):
        if name != supported:
            raise config.error(key, f"is {name!r}; lbr supports only {supported!r}")


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
    """Raise MissingError for a folder whose model type is not that of a bi-encoder."""
    config = JsonFile(folder / CONFIG, optional=True)
    kind = model_type(folder)
    if kind != BI_ENCODER:
        raise config.error("model_type", f"is {kind}, not {BI_ENCODER}", hint="leave out --family bi-encoder")


def has_scoring_modules(folder: Path) -> bool:
    """Return whether modules after the encoder compute the score of a cross-encoder."""
    return model_type(folder) == CROSS_ENCODER and any(module.kind == "Pooling" for module in read_modules(folder))


def has_logit_score(folder: Path) -> bool:
    """Return whether the folder holds a causal cross-encoder."""
    return any(module.kind == "LogitScore" for module in read_modules(folder))


def check_cross_encoder(folder: Path) -> None:
    """Raise MissingError for a chain of modules that is none of the three kinds of cross-encoder."""
    kinds = [module.kind for module in read_modules(folder)]
    if kinds in ([], ["Transformer"], ["Transformer", "LogitScore"]):
        return
    pooled = kinds[:2] == ["Transformer", "Pooling"] and kinds[-1] == "Dense" and not set(kinds[2:]) - set(SCORING)
    if model_type(folder) != CROSS_ENCODER or not pooled:
        raise MissingError(f"{folder / MODULES}: a cross-encoder with the modules {', '.join(kinds)}, {UNSUPPORTED}")


def score_tokens(folder: Path) -> tuple[int, ...]:
    """Return the token ids of the module LogitScore: for relevant and, if there is one, for not relevant."""
    for module in read_modules(folder):
        if module.kind == "LogitScore":
            config = JsonFile(module.folder / "config.json")
            source = config.string("module_input_name") or "causal_logits"
            if source != "causal_logits":
                raise config.error("module_input_name", f"is {source!r}, {UNSUPPORTED}")
            relevant, other = config.integer("true_token_id"), config.integer("false_token_id")
            if relevant is None:
                raise config.error("true_token_id", "is missing")
            return (relevant,) if other is None else (relevant, other)
    raise MissingError(f"{folder / MODULES}: has no module LogitScore", hint="choose another --family")


def default_prompt(folder: Path) -> str:
    """Return the prompt that sentence-transformers adds to each pair of a cross-encoder, "" if there is none."""
    config = JsonFile(folder / CONFIG, optional=True)
    prompts, default = config.texts("prompts"), config.string("default_prompt_name")
    if default is None:
        return ""
    if default not in prompts:
        listed = ", ".join(map(repr, prompts)) or "no prompt"
        raise config.error("default_prompt_name", f"is {default!r}", hint=f'"prompts" has {listed}')
    return prompts[default]


def read_first_module(folder: Path, *, is_late: bool = False) -> Reading:
    """Return how the first module of a folder reads texts. Raises MissingError for settings that lbr does not support.

    If `is_late`, the folder holds a late-interaction model, whose first module may expand queries.
    """
    modules = read_modules(folder)
    if not modules:
        return Reading(folder)
    first = modules[0]
    if first.kind != "Transformer":
        raise MissingError(f"{folder / MODULES}: module 0 is a {first.kind}, {UNSUPPORTED}")
    config = transformer_config(first.folder)
    limit = positive(config, "max_seq_length")
    check_options(config, is_late=is_late)
    return Reading(first.folder, limit, bool(config.boolean("do_lower_case")), _pair_chat(config))


def _pair_chat(config: JsonFile) -> PairChat | None:
    """Return the chat template of pairs; None if the module reads plain text."""
    settings = config.object("processing_kwargs")
    if unknown := sorted(name for name, value in settings.items() if value and name != "chat_template"):
        raise config.error("processing_kwargs", f"sets {', '.join(unknown)}, {UNSUPPORTED}")
    modalities = config.object("modality_config")
    if "message" not in modalities:
        return None
    message = modalities["message"]
    form = message.get("format") if isinstance(message, dict) else None
    if form not in ("flat", "structured", "auto", None):
        raise config.error("modality_config", f'has the "format" {form!r}, {UNSUPPORTED}')
    variables = settings.get("chat_template") or {}
    if not isinstance(variables, dict) or not all(_is_plain(value) for value in variables.values()):
        raise config.error("processing_kwargs", f'has a "chat_template" with values that are not plain, {UNSUPPORTED}')
    named = tuple(sorted((name, value) for name, value in variables.items() if name != NOT_FOR_TEMPLATES))
    return PairChat(structured={"flat": False, "structured": True}.get(str(form)), variables=named)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)
