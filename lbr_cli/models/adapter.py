"""LoRA adapters of peft: `adapter_config.json` names a base model, whose weights are merged with those of the adapter.

The adapter is in the folder of the model, or in that of the first module of a sentence-transformers folder. Adapters
that lbr would merge differently from peft raise an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lbr_cli.core import Classification, Embedding, Family, NextToken, Pair, TokenEmbeddings
from lbr_cli.errors import MissingError, UsageError
from lbr_cli.models.json_file import JsonFile
from lbr_cli.models.model import LocalModel
from lbr_cli.models.sentence_transformers import UNSUPPORTED, read_modules
from lbr_cli.models.snapshot import ADAPTER, ADAPTER_WEIGHTS, VOCABULARIES, WHOLE

MERGE_HINT = "merge the adapter into its base model with peft (merge_and_unload), save the result, and name that folder"
# values of "init_lora_weights" with which training keeps the weights of the base model; others, such as pissa, change
# these weights first
INITS = (None, True, False, "gaussian", "eva", "orthogonal")
# keys that peft's merge follows, or that have no effect on it; a value of another key has to be null, false or empty
KNOWN_KEYS = {
    *("auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "peft_type", "peft_version"),
    *("task_type", "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "fan_in_fan_out", "bias"),
    *("use_rslora", "modules_to_save", "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern"),
    *("use_dora", "lora_bias", "trainable_token_indices", "target_parameters", "init_lora_weights", "eva_config"),
    *("loftq_config", "megatron_core", "qalora_group_size", "runtime_config"),
}
# task of an adapter -> the types of requests of its families; sentence-transformers does not use the task
TASKS = {
    "CAUSAL_LM": (NextToken,),
    "SEQ_2_SEQ_LM": (NextToken,),
    "SEQ_CLS": (Pair, Classification),
    "FEATURE_EXTRACTION": (Embedding, TokenEmbeddings),
}


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter in a model folder; `folder` is that of `adapter_config.json`, `commit` that of a snapshot."""

    model_folder: Path
    folder: Path
    base: str
    revision: str | None
    task: str | None
    commit: str | None = None

    @property
    def config(self) -> Path:
        """The path of `adapter_config.json`."""
        return self.folder / ADAPTER

    @property
    def predicts_tokens(self) -> bool:
        """Whether the adapter predicts tokens, so that its family is that of the base model, if known."""
        return self.task in ("CAUSAL_LM", "SEQ_2_SEQ_LM") and not read_modules(self.model_folder)


def read_adapter(model_folder: Path, commit: str | None = None) -> Adapter | None:
    """Return the adapter in a model folder, None if there is none. MissingError for one that is not supported."""
    folders = [module.folder for module in read_modules(model_folder)]
    folder = folders[0] if folders else model_folder
    if other := [path for path in (model_folder, *folders[1:]) if path != folder and (path / ADAPTER).exists()]:
        problem = f"an adapter outside the folder of the first module, {UNSUPPORTED}"
        raise MissingError(f"{other[0] / ADAPTER}: {problem}", hint=MERGE_HINT)
    if not (folder / ADAPTER).exists():
        return None
    config = JsonFile(folder / ADAPTER)
    base = config.string("base_model_name_or_path")
    _check_config(config)
    _check_files(folder, base or "a base model")
    if not base:
        raise config.error("base_model_name_or_path", "is missing", hint="write the folder or hub id of the base model")
    return Adapter(model_folder, folder, base, config.string("revision"), config.string("task_type"), commit)


def check_task(adapter: Adapter, family: Family) -> None:
    """Raise UsageError if the task of an adapter is not that of the family."""
    if adapter.task is None or read_modules(adapter.model_folder):
        return
    if family.request_type not in TASKS[adapter.task]:
        problem = f'--family {family.name}: {adapter.config}: "task_type" is {adapter.task}'
        raise UsageError(problem, hint="leave out --family, or name one for this task")


def check_base(base: LocalModel, adapter: Adapter) -> None:
    """Raise MissingError for a base model that is not a folder of plain weights."""
    key = f'{adapter.config}: "base_model_name_or_path" is {adapter.base}'
    if base.gguf:
        raise MissingError(f"{key}, a GGUF file", hint="name the folder that it was converted from")
    if (base.folder / ADAPTER).exists():
        raise MissingError(f"{key}, which is itself an adapter", hint=MERGE_HINT)
    config = JsonFile(base.folder / "config.json", optional=True)
    if config.object("quantization_config"):
        hint = f'write the name of the unquantized model as "base_model_name_or_path" of {adapter.config}'
        raise config.error("quantization_config", "is set: an adapter is not merged into quantized weights", hint=hint)


def tokenizer_source(model: LocalModel) -> LocalModel:
    """Return the model whose folder holds the tokenizer: that of an adapter, else that of its base model."""
    if model.base is None or any(path for pattern in VOCABULARIES for path in model.folder.glob(pattern)):
        return model
    return model.base


def _check_config(config: JsonFile) -> None:
    """Raise MissingError for an adapter that peft cannot merge, or whose scores the merge would change."""
    kind = config.string("peft_type")
    if kind != "LORA":
        raise config.error("peft_type", f"is {kind}, {UNSUPPORTED}: it merges adapters of the type LORA")
    task = config.string("task_type")
    if task is not None and task not in TASKS:
        raise config.error("task_type", f"is {task}, not a task of rerankers ({', '.join(TASKS)})")
    init = config.value("init_lora_weights")
    if init not in INITS:
        hint = "convert it to a plain LoRA adapter: save_pretrained with path_initial_model_for_weight_conversion"
        raise config.error("init_lora_weights", f"is {init!r}: the weights of the base model were changed", hint=hint)
    for key in sorted(set(config.keys) - KNOWN_KEYS):
        if config.value(key):
            raise config.error(key, f"is {config.value(key)!r}, {UNSUPPORTED}", hint=MERGE_HINT)


def _check_files(folder: Path, base: str) -> None:
    """Raise MissingError for a folder without the weights of an adapter, or with other weights or adapters."""
    if not any((folder / name).exists() for name in ADAPTER_WEIGHTS):
        problem = f"an adapter of {base} without its weights (none of {', '.join(ADAPTER_WEIGHTS)})"
        raise MissingError(f"{folder / ADAPTER}: {problem}")
    own = sorted(path for pattern in WHOLE for path in folder.glob(pattern) if path.name not in ADAPTER_WEIGHTS)
    if own:
        hint = "remove one of the two files"
        raise MissingError(f"{folder / ADAPTER}: an adapter of {base} beside the weights {own[0].name}", hint=hint)
    others = [path for path in sorted(folder.glob(f"*/{ADAPTER}")) if not path.parent.name.startswith("checkpoint-")]
    if others:
        hint = "name a folder with one adapter"
        raise MissingError(f"{others[0]}: several adapters in {folder}, {UNSUPPORTED}", hint=hint)
