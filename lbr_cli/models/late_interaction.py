"""Folders of late-interaction models, in three forms, detected from their files.

- sentence-transformers: `"model_type": "MultiVectorEncoder"` in `config_sentence_transformers.json`; the settings are
  in the configurations of its modules.
- PyLate: `"model_type": "ColBERT"`, or in older folders no type but a prefix; prefixes, lengths, query expansion and
  skip list are in `config_sentence_transformers.json`, and its modules are Transformer and Dense.
- Stanford: `"architectures": ["HF_ColBERT"]` in `config.json`; the settings are in `artifact.metadata`, and the weights
  of the model hold the linear layer.

Formats as of sentence-transformers 6.2, which reads all three, PyLate 1.6 and colbert-ai 0.2. Settings that would give
other scores than theirs raise an error.
"""

from __future__ import annotations

import json
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lbr_cli.core import Expansion
from lbr_cli.errors import MissingError
from lbr_cli.families.late_interaction import MAXSIM, MEAN_MAXSIM
from lbr_cli.models.json_file import JsonFile
from lbr_cli.models.sentence_transformers import (
    BI_ENCODER,
    CONFIG,
    LATE_INTERACTION,
    MODULES,
    PYLATE,
    UNSUPPORTED,
    check_names,
    feature_extraction_config,
    positive,
    read_modules,
)

METADATA = "artifact.metadata"
STANFORD = "HF_ColBERT"
PREFIXES = {"query": "query_prefix", "document": "document_prefix"}
# keys of a PyLate folder; with any of them, query expansion is on by default
PYLATE_KEYS = (
    *(*PREFIXES.values(), "query_length", "document_length", "skiplist_words"),
    *("do_query_expansion", "attend_to_expansion_tokens"),
)
EXPANDED_LENGTH = 32  # tokens of an expanded query, the default of PyLate and Stanford
EXPANSION_KEYS = {"strategy", "attend", "token", "length"}
PUNCTUATION = tuple(string.punctuation)
DEFAULT_TASKS = ("document",)


@dataclass(frozen=True, slots=True)
class LateFolder:
    """How a folder encodes texts.

    `prompts` and `lengths` are by role, "query" or "document". Prompts begin with one of `prefixes`, each of which is
    one token. `skipped` are words of the vocabulary that get no vector in texts of the roles `skipped_in`. `dense` are
    the folders of linear layers, in order; `linear` means that one layer is in the weights of the model.
    """

    prompts: dict[str, str]
    lengths: dict[str, int | None]
    expansion: Expansion | None
    prefixes: tuple[str, ...]
    similarity: str
    skipped: tuple[str, ...]
    skipped_in: tuple[str, ...]
    dense: tuple[Path, ...]
    normalized: bool
    linear: bool = False

    @property
    def usual_length(self) -> int | None:
        """The maximum length of all texts; None if the folder does not limit one of the two roles."""
        query, document = self.lengths["query"], self.lengths["document"]
        return max(query, document) if query and document else None


def is_late_interaction(folder: Path) -> bool:
    """Return whether the files of a folder are those of a late-interaction model."""
    config = JsonFile(folder / CONFIG, optional=True)
    kind = config.string("model_type")
    return kind in (LATE_INTERACTION, PYLATE) or (kind in (None, BI_ENCODER) and _is_legacy(folder, config))


def _is_legacy(folder: Path, config: JsonFile) -> bool:
    """Return whether a folder without a type of its own is one of PyLate or Stanford."""
    return any(config.string(key) is not None for key in PREFIXES.values()) or _is_stanford(folder)


def _is_stanford(folder: Path) -> bool:
    return STANFORD in JsonFile(folder / "config.json", optional=True).strings("architectures")


def read_late_folder(folder: Path) -> LateFolder:
    """Read the settings of a late-interaction model. MissingError for settings that lbr does not support."""
    if not is_late_interaction(folder):
        problem = f'"model_type" is neither {LATE_INTERACTION} nor {PYLATE}, and there is no {METADATA}'
        hint = "leave out --family late-interaction"
        raise MissingError(f"{folder / CONFIG}: {problem}", hint=hint)
    config = JsonFile(folder / CONFIG, optional=True)
    if config.string("model_type") == LATE_INTERACTION:
        return _native(folder, config)
    return _pylate(folder, config) if (folder / MODULES).exists() else _stanford(folder)


def _native(folder: Path, config: JsonFile) -> LateFolder:
    """Return the settings of a folder of sentence-transformers."""
    modules = read_modules(folder)
    kinds = [module.kind for module in modules]
    allowed = {"Dense", "MultiVectorMask", "Normalize"}
    if kinds[:1] != ["Transformer"] or set(kinds[1:]) - allowed or kinds.count("MultiVectorMask") > 1:
        raise _unsupported_modules(folder, kinds)
    if "Normalize" in kinds and "Dense" in kinds[kinds.index("Normalize") :]:
        raise _unsupported_modules(folder, kinds)
    transformer = feature_extraction_config(modules[0].folder, is_late=True)
    expansion = _expansion(transformer, transformer.value("query_expansion"))
    mask = (
        JsonFile(modules[kinds.index("MultiVectorMask")].folder / "config.json") if "MultiVectorMask" in kinds else None
    )
    if expansion and mask is None:
        raise _unsupported_modules(folder, kinds, " with query_expansion")
    if mask and mask.value("keep_only_token_ids"):
        raise mask.error("keep_only_token_ids", f"is set, {UNSUPPORTED}")
    for module in modules:
        if module.kind == "Normalize":
            names = JsonFile(module.folder / "config.json", optional=True)
            check_names(names, "token_embeddings", "token_embeddings", default="sentence_embedding")
    lengths = _lengths(transformer, {}, expansion)
    return LateFolder(
        prompts=_prompts(config, {}),
        lengths=lengths,
        expansion=expansion[0] if expansion else None,
        prefixes=(),
        similarity=MEAN_MAXSIM if config.string("similarity_fn_name") == MEAN_MAXSIM else MAXSIM,
        skipped=tuple(mask.strings("skiplist_words")) if mask else (),
        skipped_in=tuple(mask.strings("skiplist_tasks") or DEFAULT_TASKS) if mask else (),
        dense=tuple(module.folder for module in modules if module.kind == "Dense"),
        normalized="Normalize" in kinds,
    )


def _pylate(folder: Path, config: JsonFile) -> LateFolder:
    """Return the settings of a folder of PyLate."""
    modules = read_modules(folder)
    kinds = [module.kind for module in modules]
    if kinds[:1] != ["Transformer"] or "Dense" not in kinds or set(kinds[1:]) - {"Dense", "Pooling"}:
        raise _unsupported_modules(folder, kinds)
    transformer = feature_extraction_config(modules[0].folder, is_late=True)
    saved = {key: config.value(key) for key in ("query_length", "document_length") if config.value(key) is not None}
    if "query_expansion" in transformer.keys:
        expansion = _expansion(transformer, transformer.value("query_expansion"))
    elif "query_expansion" in config.keys:
        expansion = _expansion(config, config.value("query_expansion"))
    elif config.boolean("do_query_expansion") is False or not set(PYLATE_KEYS) & set(config.keys):
        expansion = None
    else:
        attended = bool(config.boolean("attend_to_expansion_tokens"))
        length = positive(config, "query_length") or EXPANDED_LENGTH
        saved.pop("query_length", None)
        expansion = Expansion(length, attended), True
    for key in saved:
        positive(config, key)
    prefixes = {role: config.string(key) or "" for role, key in PREFIXES.items()}
    skipped = config.value("skiplist_words")
    return LateFolder(
        prompts=_prompts(config, prefixes),
        lengths=_lengths(transformer, saved, expansion),
        expansion=expansion[0] if expansion else None,
        prefixes=tuple(prefix for prefix in prefixes.values() if prefix),
        similarity=MAXSIM,
        skipped=PUNCTUATION if skipped is None else tuple(config.strings("skiplist_words")),
        skipped_in=DEFAULT_TASKS,
        dense=tuple(module.folder for module in modules if module.kind == "Dense"),
        normalized=True,
    )


def _stanford(folder: Path) -> LateFolder:
    """Return the settings of a folder of Stanford's ColBERT. MissingError if it has no metadata."""
    if not (folder / METADATA).exists():
        problem = f"{METADATA}, which has its prefixes and lengths, is missing"
        raise MissingError(f"{folder}: a folder of {STANFORD}: {problem}")
    metadata = JsonFile(folder / METADATA)
    similarity = metadata.string("similarity")
    if similarity not in (None, "cosine"):
        raise metadata.error("similarity", f"is {similarity}, {UNSUPPORTED}")
    tokens = {
        "query": metadata.string("query_token_id") or "[unused0]",
        "document": metadata.string("doc_token_id") or "[unused1]",
    }
    length = positive(metadata, "query_maxlen") or EXPANDED_LENGTH
    return LateFolder(
        prompts={role: f"{token} " for role, token in tokens.items()},
        lengths={"query": length, "document": positive(metadata, "doc_maxlen")},
        expansion=Expansion(length, bool(metadata.boolean("attend_to_mask_tokens"))),
        prefixes=tuple(tokens.values()),
        similarity=MAXSIM,
        skipped=() if metadata.boolean("mask_punctuation") is False else PUNCTUATION,
        skipped_in=DEFAULT_TASKS,
        dense=(),
        normalized=True,
        linear=True,
    )


def _expansion(config: JsonFile, value: Any) -> tuple[Expansion, bool] | None:
    """Return a query expansion and whether its length is also the limit of a query; None if there is none."""
    if value is None:
        return None
    if not isinstance(value, dict) or set(value) - EXPANSION_KEYS:
        raise config.error("query_expansion", f"is {json.dumps(value)}, {UNSUPPORTED}")
    strategy, length, attended, token = (value.get(key) for key in ("strategy", "length", "attend", "token"))
    is_known = strategy in ("fixed", "min") and isinstance(attended, bool | None) and isinstance(token, str | None)
    if not is_known or not isinstance(length, int) or isinstance(length, bool) or length < 1:
        raise config.error("query_expansion", f"is {json.dumps(value)}, {UNSUPPORTED}")
    return Expansion(length, bool(attended), token), strategy == "fixed"


def _lengths(
    transformer: JsonFile, saved: dict[str, int], expansion: tuple[Expansion, bool] | None
) -> dict[str, int | None]:
    """Return the limits in tokens by role. `saved` are those of a PyLate folder; the first module has precedence."""
    usual = positive(transformer, "max_seq_length")
    query = positive(transformer, "query_length") or saved.get("query_length")
    document = positive(transformer, "document_length") or saved.get("document_length")
    if expansion:
        length, is_limit = expansion[0].length, expansion[1]
        if query is not None and query < length:
            problem = f"is {query}, less than the length of query_expansion ({length}), {UNSUPPORTED}"
            raise transformer.error("query_length", problem)
        query = length if is_limit else query
    return {"query": query or usual, "document": document or usual}


def _prompts(config: JsonFile, prefixes: dict[str, str]) -> dict[str, str]:
    """Return the prompts by role, each after the prefix of its role."""
    prompts = config.texts("prompts")
    return {
        role: prefixes.get(role, "") + prompts.get(role, "").removeprefix(prefixes.get(role, ""))
        for role in ("query", "document")
    }


def _unsupported_modules(folder: Path, kinds: list[str], option: str = "") -> MissingError:
    return MissingError(f"{folder / MODULES}: a late-interaction model{option} of {', '.join(kinds)}, {UNSUPPORTED}")
