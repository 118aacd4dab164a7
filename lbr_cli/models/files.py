"""What a model's own files tell of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from lbr_cli.core import Family, NextToken
from lbr_cli.errors import MissingError, UsageError
from lbr_cli.families import FAMILIES, BiEncoder, Classifier, MonoT5
from lbr_cli.families.bi_encoder import SIMILARITIES
from lbr_cli.families.monot5 import YES_NO
from lbr_cli.models.model import Model

FAMILY_NAMES = ", ".join(known.name for known in FAMILIES)
FAMILY_HINT = f"name it with --family: {FAMILY_NAMES}"
CODE_HINT = "it comes with code of its own: --trust-remote-code runs it, once you have read it"
OTHER_FAMILY_HINT = f"is it of another --family? there are: {FAMILY_NAMES}"


def family_of(model: Model) -> Family:
    """The family that a model's files name. UsageError where they do not: a causal model never says how it is asked."""
    if model.gguf:
        raise UsageError(f"{model.place / model.gguf}: a GGUF file does not tell its family", hint=FAMILY_HINT)
    folder = model.place
    # sentence-transformers writes modules.json for its cross-encoders too, which do not pool
    if (folder / "modules.json").exists() and "Pooling" in (folder / "modules.json").read_text(encoding="utf-8"):
        return BiEncoder()
    config = read_config(folder)
    named = architecture(config)
    if named.endswith("ForSequenceClassification"):
        labels = label_count(config)
        if labels > 2:
            raise UsageError(f"{folder}: a {named} with {labels} labels; lbr reads one or two", hint=OTHER_FAMILY_HINT)
        return Classifier()
    if named.endswith("T5ForConditionalGeneration"):
        return MonoT5(YES_NO) if config.get("model_type") == "mt5" else MonoT5()
    what = named or "none named"
    raise UsageError(f"{folder}: its files do not tell which family it is of (architecture: {what})", hint=FAMILY_HINT)


def check_architecture(family: Family, folder: Path) -> None:
    """UsageError where a model's files name an architecture that cannot answer what the family asks."""
    named = architecture(read_config(folder))
    if family.asks is NextToken and named.endswith("ForSequenceClassification"):
        wrong = "has no vocabulary to answer with"
    elif isinstance(family, MonoT5) and named and "T5" not in named:
        wrong = "is no T5"
    else:
        return
    raise UsageError(f"--family {family.name}: {folder} is a {named}, which {wrong}", hint=OTHER_FAMILY_HINT)


def architecture(config: dict[str, Any]) -> str:
    """The classes of transformers that a configuration names; "" if none."""
    named = config.get("architectures") or []
    return ", ".join(map(str, named)) if isinstance(named, list) else str(named)


def label_count(config: dict[str, Any]) -> int:
    """How many numbers a classification head gives, as transformers counts them: two where nothing is said."""
    labels = config.get("id2label")
    return len(labels) if labels else int(config.get("num_labels", 2))


def completed(family: BiEncoder, folder: Path) -> BiEncoder:
    """The family with the prompts and the similarity that a sentence-transformers folder names, where not chosen."""
    path = folder / "config_sentence_transformers.json"
    said = read_json(path) if path.exists() else {}
    prompts = said.get("prompts") or {}
    similarity = said.get("similarity_fn_name") or "cosine"
    if similarity not in SIMILARITIES:
        raise MissingError(f"{path}: its similarity {similarity!r} is none of {', '.join(SIMILARITIES)}")
    return replace(
        family,
        query_prompt=family.query_prompt if family.query_prompt is not None else prompts.get("query") or "",
        document_prompt=family.document_prompt if family.document_prompt is not None else prompts.get("document") or "",
        similarity=family.similarity or similarity,
    )


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a model folder."""
    if not (folder / "config.json").exists():
        raise MissingError(f"{folder}: no config.json there, so it is no model folder")
    return read_json(folder / "config.json")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object that a file of a model holds."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MissingError(f"{path}: cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise MissingError(f"{path}: no JSON object")
    return value
