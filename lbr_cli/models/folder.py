"""The family of a model, from the files in its folder. Unsupported folders raise an error instead of wrong scores.

An error names the file, the key and, if there is one, the remedy.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from lbr_cli.core import Family, NextToken, PairChat
from lbr_cli.errors import MissingError, UsageError
from lbr_cli.families import FAMILIES, BiEncoder, Classifier, LateInteraction, LogitScore, MonoT5
from lbr_cli.families.bi_encoder import SIMILARITIES
from lbr_cli.families.monot5 import YES_NO
from lbr_cli.models import sentence_transformers
from lbr_cli.models.adapter import tokenizer_source
from lbr_cli.models.digests import model_files
from lbr_cli.models.json_file import JsonFile
from lbr_cli.models.late_interaction import is_late_interaction, read_late_folder
from lbr_cli.models.model import LocalModel
from lbr_cli.models.scope import check_scope
from lbr_cli.models.weights import check_files

CONFIG = "config.json"
FAMILY_NAMES = ", ".join(known.name for known in FAMILIES)
FAMILY_HINT = f"name it with --family: {FAMILY_NAMES}"
CODE_HINT = "the model comes with its own code: read that code, then run it with --trust-remote-code"
OTHER_FAMILY_HINT = f"try another --family: {FAMILY_NAMES}"
# labels of a two-label classifier that mean "relevant", and those that mean the opposite
RELEVANT = {"relevant", "related", "yes", "true", "positive", "pos", "match", "duplicate", "entailment"}
OPPOSITES = {"irrelevant", "unrelated", "no", "false", "negative", "neg", "mismatch"}
NEGATION = re.compile(r"^(?:not?|non)[\W_]*(?=[a-z])")


def family_of(folder: Path, gguf: str, base: Path | None = None, task: str | None = None) -> Family:
    """Return the family that a model's files determine. UsageError if they do not, as for every causal model.

    For a folder that holds an adapter, `base` is the folder of its base model, and `task` the task of the adapter.
    """
    if gguf:
        raise UsageError(f"{folder / gguf}: a GGUF file does not name its family", hint=FAMILY_HINT)
    if is_late_interaction(folder):
        return LateInteraction()
    if sentence_transformers.is_bi_encoder(folder):
        return BiEncoder()
    sentence_transformers.check_cross_encoder(folder)
    if sentence_transformers.has_logit_score(folder):
        return LogitScore()
    if sentence_transformers.has_scoring_modules(folder) or task == "SEQ_CLS":
        return Classifier()
    config = read_config(base or sentence_transformers.transformer_folder(folder))
    check_scope(config)
    named = architecture(config)
    if named.endswith("ForSequenceClassification"):
        # transformers assumes two labels if the configuration has neither
        labels = len(config.object("id2label")) or config.integer("num_labels")
        if labels is not None and labels > 2:
            raise UsageError(f"{folder}: a {named} with {labels} labels; lbr reads one or two", hint=OTHER_FAMILY_HINT)
        return Classifier()
    if named.endswith("T5ForConditionalGeneration"):
        return MonoT5(YES_NO) if config.string("model_type") == "mt5" else MonoT5()
    problem = f"its files do not name its family (architecture: {named or 'none named'})"
    raise UsageError(f"{folder}: {problem}", hint=FAMILY_HINT)


def checked_family(model: LocalModel) -> Family:
    """Check the files of a model for its family; return the family with the options that they contain.

    Raises MissingError and UsageError for a folder that lbr would read differently from the library that wrote it.
    """
    check_files(model_files(model))
    family, folder = model.family, model.folder
    if model.gguf:
        return family
    if isinstance(family, LateInteraction):
        return with_late_folder(family, folder)
    if isinstance(family, BiEncoder):
        sentence_transformers.check_bi_encoder(folder)
        return with_folder_defaults(family, folder)
    config_folder = model.base.folder if model.base else sentence_transformers.transformer_folder(folder)
    check_architecture(family, config_folder)
    if isinstance(family, LogitScore):
        return with_logit_score(family, folder)
    if isinstance(family, Classifier):
        family = replace(family, relevant=relevant_label(read_config(config_folder)))
        return with_pair_reading(family, model)
    return family


def check_architecture(family: Family, folder: Path) -> None:
    """Raise UsageError if the architecture of a model cannot answer the requests of the family."""
    config = read_config(folder)
    check_scope(config)
    named = architecture(config)
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
    """Return which of two labels means "relevant": the second, unless their names mean the opposite."""
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

    Prompts and similarity that the user chose are kept.
    """
    config = JsonFile(folder / sentence_transformers.CONFIG, optional=True)
    prompts = config.texts("prompts")
    similarity = config.string("similarity_fn_name") or "cosine"
    if similarity not in SIMILARITIES:
        raise config.error("similarity_fn_name", f"is {similarity!r}, none of {', '.join(SIMILARITIES)}")
    query, document = family.query_prompt, family.document_prompt
    modules = sentence_transformers.read_modules(folder)
    transformer = sentence_transformers.bi_encoder_config(modules[0].folder if modules else folder)
    return BiEncoder(
        prompts.get("query", "") if query is None else query,
        prompts.get("document", "") if document is None else document,
        family.similarity or similarity,
        sentence_transformers.positive(transformer, "query_length"),
        sentence_transformers.positive(transformer, "document_length"),
    )


def with_late_folder(family: LateInteraction, folder: Path) -> LateInteraction:
    """Return the family with the settings of a folder. Prompts that the user chose are kept."""
    settings = read_late_folder(folder)
    query, document = family.query_prompt, family.document_prompt
    return replace(
        family,
        query_prompt=settings.prompts["query"] if query is None else query,
        document_prompt=settings.prompts["document"] if document is None else document,
        similarity=settings.similarity,
        query_length=settings.lengths["query"],
        document_length=settings.lengths["document"],
        expansion=settings.expansion,
    )


def with_logit_score(family: LogitScore, folder: Path) -> LogitScore:
    """Return the family with the tokens, the default prompt and the chat template of a folder."""
    sentence_transformers.check_cross_encoder(folder)
    tokens = sentence_transformers.score_tokens(folder)
    chat = sentence_transformers.read_first_module(folder).chat
    if chat is None:
        path = folder / sentence_transformers.TRANSFORMER_CONFIGS[0]
        problem = '"modality_config" has no "message": the pair is read without a chat template'
        raise MissingError(f"{path}: {problem}, {sentence_transformers.UNSUPPORTED}")
    prompt = sentence_transformers.default_prompt(folder) if family.instruction is None else family.instruction
    return replace(family, tokens=tokens, chat=chat, instruction=prompt)


def with_pair_reading(family: Classifier, model: LocalModel) -> Classifier:
    """Return the family with the prompt and the chat template of a folder, unless the user chose others.

    As in sentence-transformers, a folder without `modules.json` whose tokenizer has a chat template uses it for pairs.
    Raises UsageError for prompts that would have no effect.
    """
    folder = model.folder
    sentence_transformers.check_cross_encoder(folder)
    if family.prompt:
        return family
    has_modules = bool(sentence_transformers.read_modules(folder))
    chat = sentence_transformers.read_first_module(folder).chat
    has_prompt = family.query_prompt is not None or family.document_prompt is not None
    bare = has_modules or family.without_prompt or has_prompt
    if not bare and has_chat_template(tokenizer_source(model).folder):
        chat = PairChat(structured=None)
    if chat and family.document_prompt is not None:
        problem = f"--document-prompt has no effect: {folder} has a chat template for pairs"
        raise UsageError(problem, hint="--query-prompt is its system message, and --prompt-file replaces it")
    prompt = sentence_transformers.default_prompt(folder) if family.query_prompt is None else family.query_prompt
    return replace(family, without_prompt=bare, query_prompt=prompt or None, chat=chat)


def has_chat_template(folder: Path) -> bool:
    """Return whether the tokenizer of a folder has a chat template."""
    if (folder / "chat_template.jinja").exists() or (folder / "additional_chat_templates").is_dir():
        return True
    return bool(JsonFile(folder / "tokenizer_config.json", optional=True).value("chat_template"))


def read_config(folder: Path) -> JsonFile:
    """Read `config.json` of a model folder. MissingError if there is none."""
    if not (folder / CONFIG).exists():
        raise MissingError(f"{folder}: not a model folder: config.json is missing")
    return JsonFile(folder / CONFIG)
