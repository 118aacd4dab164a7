"""Load a model's configuration and its tokenizer with transformers, without torch; `local/loading.py` loads weights.

Files that do not fit together raise an error: nothing is guessed.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any, NamedTuple

import transformers
from tokenizers import normalizers

from lbr_cli.engines import UNLIMITED, Settings
from lbr_cli.engines.special_tokens import keep_special_tokens_plain
from lbr_cli.engines.tokenizer_file import FILE, MISTRAL_FIX, TokenizerFile, is_repaired, without_dropout
from lbr_cli.errors import MissingError, RunError, UsageError
from lbr_cli.models import LocalModel
from lbr_cli.models.adapter import tokenizer_source
from lbr_cli.models.folder import CODE_HINT, read_config
from lbr_cli.models.json_file import kind_of

# errors are raised as well, and reported by lbr
transformers.utils.logging.set_verbosity(logging.CRITICAL)
transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]

OF_TRANSFORMERS, OF_FILE = "transformers", "tokenizer.json"  # the sources of a tokenizer

# types of models whose position table begins after the padding id
BEHIND_PADDING = (
    *("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "data2vec-text", "longformer"),
    *("mpnet", "luke", "mluke", "lilt", "xmod", "ibert", "esm"),
)


def load_config(model: LocalModel) -> Any:
    """Return the configuration of a model; for an adapter, that of its base model."""
    return load(transformers.AutoConfig, model.base or model, "configuration")


class FolderTokenizer(NamedTuple):
    """The tokenizer of a model folder.

    `source` is `OF_TRANSFORMERS` or `OF_FILE`, and `reason` says why it was chosen.
    """

    tokenizer: Any
    source: str
    reason: str


def load_tokenizer(model: LocalModel, source: str = "") -> FolderTokenizer:
    """Return the model's fast tokenizer: only a fast tokenizer returns the character offsets of tokens.

    If the tokenizer of transformers differs from `tokenizer.json`, the file is used as it is. `source` is that of an
    earlier call with the same files and versions; then nothing is compared. Raises MissingError if there is no fast
    tokenizer.
    """
    loaded = _load_tokenizer(tokenizer_source(model), source)
    keep_special_tokens_plain(loaded.tokenizer.backend_tokenizer)
    return loaded


def _load_tokenizer(model: LocalModel, source: str) -> FolderTokenizer:
    if source == OF_FILE:
        tokenizer = _tokenizer(transformers.PreTrainedTokenizerFast, model)
        TokenizerFile(model.folder).apply_parts(tokenizer)
        return FolderTokenizer(tokenizer, OF_FILE, "as in an earlier run")
    tokenizer = _tokenizer(transformers.AutoTokenizer, model)
    name = f"{type(tokenizer).__name__} of transformers {transformers.__version__}"
    if model.gguf and isinstance(tokenizer, transformers.Qwen2Tokenizer):
        tokenizer.backend_tokenizer.normalizer = normalizers.NFC()  # Qwen's: a GGUF file has no field for it
    if source == OF_TRANSFORMERS:
        return FolderTokenizer(tokenizer, source, f"{name}, as in an earlier run")
    if model.gguf or not (model.folder / FILE).exists():
        return FolderTokenizer(tokenizer, OF_TRANSFORMERS, f"{name}; there is no {FILE}")
    file = TokenizerFile(model.folder)
    difference = file.difference(tokenizer)
    if not difference:
        equal = f"equal to {FILE}" + (f" but for {MISTRAL_FIX}" if is_repaired(tokenizer) else "")
        return FolderTokenizer(tokenizer, OF_TRANSFORMERS, f"{name}, {equal}")
    tokenizer = _tokenizer(transformers.PreTrainedTokenizerFast, model)
    file.apply_parts(tokenizer)
    if remaining := file.difference(tokenizer):
        problem = f"{remaining}: neither {name} nor PreTrainedTokenizerFast follows the file"
        raise MissingError(f"{file.path}: {problem}")
    return FolderTokenizer(tokenizer, OF_FILE, f"{FILE}; {name} differs from it ({difference})")


def _tokenizer(kind: Any, model: LocalModel) -> Any:
    """Return a fast tokenizer of the class `kind`, whose tokens of a text are always the same."""
    tokenizer = load(kind, model, "tokenizer")
    # without a file, transformers builds a tokenizer with an empty vocabulary
    names = [model.gguf] if model.gguf else tokenizer.vocab_files_names.values()
    if not any((model.folder / name).exists() for name in names):
        raise MissingError(f"{model.folder}: tokenizer not found (none of {', '.join(sorted(names))})")
    if not tokenizer.is_fast:
        raise MissingError(f"{model.folder}: no fast tokenizer: tokenizer.json not found")
    _check_limit(tokenizer, model)
    without_dropout(tokenizer.backend_tokenizer)
    return tokenizer


def _check_limit(tokenizer: Any, model: LocalModel) -> None:
    """Raise MissingError for a maximum length that is not a number of at least 1."""
    limit = tokenizer.model_max_length
    if not isinstance(limit, int | float):
        problem = f"has to be a number, this is {kind_of(limit)}"
    elif not limit >= 1:
        problem = f"has to be at least 1, this is {limit}"
    else:
        return
    raise MissingError(f'{model.folder / "tokenizer_config.json"}: "model_max_length" {problem}')


def check_vocabulary(tokenizer: Any, rows: int, model: LocalModel, prompts: Collection[int]) -> None:
    """Raise MissingError if a token that can occur in a text has no row in the model's embeddings.

    Special tokens beyond the last row are allowed: no text is tokenized as one of them. But those of the `prompts`, the
    token ids around the texts, need a row.
    """
    special = set(tokenizer.all_special_ids)
    special |= {token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special}
    special -= set(prompts)
    vocabulary = tokenizer.get_vocab().items()
    beyond = sorted((token_id, token) for token, token_id in vocabulary if token_id >= rows and token_id not in special)
    if beyond:
        token_id, token = beyond[0]
        problem = f"the tokenizer has the token {token!r} with the id {token_id}"
        problem += f" and {len(beyond) - 1} others" if beyond[1:] else ""
        hint = "the embeddings were not resized when the token was added (resize_token_embeddings)"
        raise MissingError(f"{model.path}: {problem}, and the model has {rows} embeddings", hint=hint)


def longest_input(tokenizer: Any, config: Any) -> int:
    """Return the maximum length in tokens that both the tokenizer and the model's position table allow.

    transformers gives 1e30 to a tokenizer without a limit; `config` may be None. The table of RoBERTa and of similar
    models begins after the padding id, so that its first rows are never used.
    """
    table = getattr(config, "max_position_embeddings", None) or 0
    if table <= 0:  # no table; XLNet has -1
        table = UNLIMITED
    if getattr(config, "model_type", "") in BEHIND_PADDING:
        table -= (config.pad_token_id or 0) + 1
    return int(min(table, tokenizer.model_max_length, UNLIMITED))


def choose_length(model: LocalModel, settings: Settings, limit: int, least: int, usual: int | None = None) -> int:
    """Return the maximum length of a prompt in tokens: --max-length, else the smallest of the model's own limits.

    `usual` is a limit that --max-length may exceed. Raises UsageError for less than `least` tokens, which a prompt
    needs, and for more than `limit`.
    """
    length = settings.max_length or min(limit, model.max_length or limit, usual or limit)
    if length > limit:
        raise UsageError(f"--max-length {length}: {model.name} reads {limit} tokens at most")
    if length < least:
        raise UsageError(f"--max-length {length}: {model.name} needs {least} tokens to read anything")
    return length


def load(kind: Any, model: LocalModel, part: str, **options: Any) -> Any:
    """Return a part of a model (configuration, tokenizer or weights), loaded by `kind`, a class of transformers.

    Nothing is downloaded and no code of the model is run unless the model is trusted: trusted code may be in another
    repository of the hub. `trust_remote_code` is always set, because transformers would prompt on stdout.
    Raises MissingError for files that cannot be used, RunError if memory runs out.
    """
    if model.gguf:
        from transformers import modeling_gguf_pytorch_utils as gguf_loader

        options["gguf_file"] = model.gguf
        vars(gguf_loader)["tqdm"] = lambda tensors, **_: tensors  # a progress bar without a setting
    trusted = model.trusted
    try:
        return kind.from_pretrained(model.folder, local_files_only=not trusted, trust_remote_code=trusted, **options)
    # the tokenizers library raises bare Exception, transformers whatever a wrong value causes
    except Exception as error:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch is not imported here
            raise RunError(f"{model.folder}: out of memory: its {part} do not fit") from error
        message = f"{model.path}: its {part} cannot be loaded: {_first_line(error)}"
        lacks_package = model.gguf and "install" in str(error)  # some loaders raise a ValueError for it
        hint = "pip install 'lbr-cli[gguf]'" if lacks_package else code_hint(model)
        raise MissingError(message, hint=hint) from error


def code_hint(model: LocalModel) -> str:
    """Return a hint for a model with code of its own that is not trusted; "" for others."""
    if model.trusted or model.gguf or not read_config(model.config_folder).object("auto_map"):
        return ""
    return CODE_HINT


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    if "ignore_mismatched_sizes" in text:  # refers to a report that is not shown
        return "size mismatch: the shapes of the weights are not those of the configuration"
    first, _, rest = text.partition("\n")
    return f"{first} {rest.strip().splitlines()[0]}" if first.rstrip().endswith(":") and rest.strip() else first
