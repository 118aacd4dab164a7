"""The files that sentence-transformers adds to a model folder: its modules, model type, prompts and similarity.

`modules.json` lists the modules of a model with the full names of their classes; `config_sentence_transformers.json`
holds the type of the model, its prompts and its similarity. Formats as of sentence-transformers 6.2. Folders that lbr
would read differently from that library raise an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from lbr_cli.errors import MissingError
from lbr_cli.models.json_file import JsonFile, kind_of, read_json

MODULES = "modules.json"
CONFIG = "config_sentence_transformers.json"
TRANSFORMER_CONFIG = "sentence_bert_config.json"
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


def check_bi_encoder(folder: Path) -> None:
    """Raise MissingError for a folder whose vectors would differ from those of sentence-transformers."""
    config = JsonFile(folder / CONFIG, optional=True)
    kind = model_type(folder)
    if kind != BI_ENCODER:
        modules = ", ".join(module.kind for module in read_modules(folder))
        raise config.error("model_type", f"is {kind}, with the modules {modules}, {UNSUPPORTED}")
    size = config.integer("truncate_dim")
    if size is not None:
        hint = 'remove "truncate_dim" from the file to compare whole vectors'
        raise config.error("truncate_dim", f"is {size}: vectors are cut to that size, {UNSUPPORTED}", hint=hint)


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
    transformer = JsonFile(modules[0].folder / TRANSFORMER_CONFIG, optional=True)
    if "message" in transformer.object("modality_config"):
        raise transformer.error("modality_config", f'has "message": pairs become chat messages, {UNSUPPORTED}')
