"""The family of a model, from the files in its folder. Unsupported folders raise an error instead of wrong scores.

An error names the file, the key and, if there is one, the remedy.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from lbr_cli.core import Family, NextToken
from lbr_cli.errors import MissingError, UsageError
from lbr_cli.families import FAMILIES, BiEncoder, Classifier, MonoT5
from lbr_cli.families.bi_encoder import SIMILARITIES
from lbr_cli.families.monot5 import YES_NO
from lbr_cli.models import sentence_transformers
from lbr_cli.models.digests import model_files
from lbr_cli.models.json_file import JsonFile
from lbr_cli.models.model import LocalModel
from lbr_cli.models.weights import check_files

CONFIG = "config.json"
ADAPTER = "adapter_config.json"
FAMILY_NAMES = ", ".join(known.name for known in FAMILIES)
FAMILY_HINT = f"name it with --family: {FAMILY_NAMES}"
CODE_HINT = "it comes with code of its own: --trust-remote-code runs it, once you have read it"
OTHER_FAMILY_HINT = f"is it of another --family? there are: {FAMILY_NAMES}"
MERGE_HINT = "merge the adapter into its base model with peft (merge_and_unload), save the result, and name that folder"
# labels of a two-label classifier that mean "relevant", and those that mean the opposite
RELEVANT = {"relevant", "related", "yes", "true", "positive", "pos", "match", "duplicate", "entailment"}
OPPOSITES = {"irrelevant", "unrelated", "no", "false", "negative", "neg", "mismatch"}
NEGATION = re.compile(r"^(?:not?|non)[\W_]*(?=[a-z])")


def family_of(folder: Path, gguf: str) -> Family:
    """Return the family that a model's files determine. UsageError if they do not, as for every causal model."""
    if gguf:
        raise UsageError(f"{folder / gguf}: a GGUF file does not name its family", hint=FAMILY_HINT)
    check_adapter(folder)
    if sentence_transformers.has_pooling(folder):
        sentence_transformers.check_bi_encoder(folder)
        return BiEncoder()
    config = read_config(folder)
    named = architecture(config)
    if named.endswith("ForSequenceClassification"):
        # like transformers: two labels if there is no information
        labels = len(config.object("id2label")) or config.integer("num_labels")
        if labels is not None and labels > 2:
            raise UsageError(f"{folder}: a {named} with {labels} labels; lbr reads one or two", hint=OTHER_FAMILY_HINT)
        return Classifier()
    if named.endswith("T5ForConditionalGeneration"):
        return MonoT5(YES_NO) if config.string("model_type") == "mt5" else MonoT5()
    what = named or "none named"
    raise UsageError(f"{folder}: its files do not name its family (architecture: {what})", hint=FAMILY_HINT)


def checked_family(model: LocalModel) -> Family:
    """Check the files of a model for its family; return the family with the options that they contain.

    Raises MissingError and UsageError for a folder that lbr would read differently from the library that wrote it.
    """
    check_files(model_files(model))
    family, folder = model.family, model.folder
    if model.gguf:
        return family
    check_adapter(folder)
    if isinstance(family, BiEncoder):
        sentence_transformers.check_bi_encoder(folder)
        return with_folder_defaults(family, folder)
    check_architecture(family, folder)
    if isinstance(family, Classifier):
        sentence_transformers.check_cross_encoder(folder)
        return replace(family, relevant=relevant_label(read_config(folder)))
    return family


def check_adapter(folder: Path) -> None:
    """Raise MissingError for a folder with an adapter such as LoRA, with or without a base model."""
    modules = sentence_transformers.read_modules(folder)
    for path in dict.fromkeys([folder / ADAPTER, *(module.folder / ADAPTER for module in modules)]):
        if path.exists():
            base = JsonFile(path).string("base_model_name_or_path") or "a base model"
            raise MissingError(f"{path}: an adapter of {base}, which is not supported", hint=MERGE_HINT)


def check_architecture(family: Family, folder: Path) -> None:
    """Raise UsageError if the architecture of a model cannot answer the requests of the family."""
    named = architecture(read_config(folder))
    problem = ""
    if family.request_type is NextToken and named.endswith("ForSequenceClassification"):
        problem = "has no vocabulary to answer with"
    elif isinstance(family, MonoT5) and named and "T5" not in named:
        problem = "is not a T5"
    if problem:
        raise UsageError(f"--family {family.name}: {folder} is a {named}, which {problem}", hint=OTHER_FAMILY_HINT)


def architecture(config: JsonFile) -> str:
    """Return the classes of transformers that a configuration names, "" if none."""
    return ", ".join(config.strings("architectures"))


def relevant_label(config: JsonFile) -> int:
    """Return which of two labels means "relevant": the second, unless their names say the opposite."""
    names = config.texts("id2label")
    if set(names) != {"0", "1"}:
        return 1
    return 0 if _is_relevant(names["0"]) is True and _is_relevant(names["1"]) is False else 1


def _is_relevant(name: str) -> bool | None:
    """Return whether the name of a label means "relevant" or the opposite; None for neither."""
    plain = name.strip().lower()
    stem = NEGATION.sub("", plain)
    if plain in RELEVANT:
        return True
    return False if plain in OPPOSITES or (stem != plain and stem in RELEVANT) else None


def with_folder_defaults(family: BiEncoder, folder: Path) -> BiEncoder:
    """Return the family with the prompts, the similarity and the lengths of a sentence-transformers folder.

    Prompts and similarity that were chosen are kept.
    """
    config = JsonFile(folder / sentence_transformers.CONFIG, optional=True)
    prompts = config.texts("prompts")
    similarity = config.string("similarity_fn_name") or "cosine"
    if similarity not in SIMILARITIES:
        raise config.error("similarity_fn_name", f"is {similarity!r}, none of {', '.join(SIMILARITIES)}")
    query, document = family.query_prompt, family.document_prompt
    modules = sentence_transformers.read_modules(folder)
    transformer = sentence_transformers.feature_extraction_config(modules[0].folder if modules else folder)
    return BiEncoder(
        prompts.get("query", "") if query is None else query,
        prompts.get("document", "") if document is None else document,
        family.similarity or similarity,
        sentence_transformers.positive(transformer, "query_length"),
        sentence_transformers.positive(transformer, "document_length"),
    )


def read_config(folder: Path) -> JsonFile:
    """Read `config.json` of a model folder."""
    if not (folder / CONFIG).exists():
        raise MissingError(f"{folder}: not a model folder: config.json is missing")
    return JsonFile(folder / CONFIG)
