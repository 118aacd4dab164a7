"""A model's small files -> its configuration and its tokenizer, by transformers and without torch.

Whatever does not fit is refused rather than guessed at. Weights are the business of `local/loading.py`.
"""

from __future__ import annotations

import logging
from typing import Any

import transformers
from tokenizers import normalizers

from lbr_cli.engines import UNLIMITED, Settings
from lbr_cli.engines.tokenizer_file import FILE, different_part
from lbr_cli.errors import MissingError, RunError, UsageError
from lbr_cli.models import LocalModel
from lbr_cli.models.folder import CODE_HINT, read_config
from lbr_cli.models.json_file import kind_of

# what goes wrong is raised too, and told in our own words
transformers.utils.logging.set_verbosity(logging.CRITICAL)
transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]

BEHIND_PADDING = (
    *("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "data2vec-text", "longformer"),
    *("mpnet", "luke", "mluke", "lilt", "xmod", "ibert", "esm"),
)


def load_config(model: LocalModel) -> Any:
    """The model's configuration as transformers understands it."""
    return load(transformers.AutoConfig, model, "configuration")


def load_tokenizer(model: LocalModel) -> Any:
    """The model's own fast tokenizer, the only kind with the characters that each token stands for.

    If transformers rebuilds it otherwise than `tokenizer.json` describes it, the file is used as it is.
    """
    tokenizer = load(transformers.AutoTokenizer, model, "tokenizer")
    names = [model.gguf] if model.gguf else tokenizer.vocab_files_names.values()
    if not any((model.folder / name).exists() for name in names):  # transformers then makes one up, of no words
        raise MissingError(f"{model.folder}: holds no tokenizer (none of {', '.join(sorted(names))})")
    if not tokenizer.is_fast:
        raise MissingError(f"{model.folder}: it has no fast tokenizer (tokenizer.json)")
    if not isinstance(tokenizer.model_max_length, int | float):
        kind = kind_of(tokenizer.model_max_length)
        raise MissingError(
            f'{model.folder / "tokenizer_config.json"}: "model_max_length" has to be a number, this is {kind}'
        )
    if not model.gguf and different_part(tokenizer, model.folder):
        name = type(tokenizer).__name__
        tokenizer = load(transformers.PreTrainedTokenizerFast, model, "tokenizer")
        part = different_part(tokenizer, model.folder)
        if part:
            problem = f'"{part}" is followed neither by {name} nor by PreTrainedTokenizerFast'
            raise MissingError(f"{model.folder / FILE}: {problem} of transformers {transformers.__version__}")
    if model.gguf and isinstance(tokenizer, transformers.Qwen2Tokenizer):
        tokenizer.backend_tokenizer.normalizer = normalizers.NFC()  # Qwen's, which a GGUF file has no place for
    return tokenizer


def check_vocabulary(tokenizer: Any, rows: int, model: LocalModel) -> None:
    """MissingError for a tokenizer with a token that can occur in a text and has no row in the model's embeddings.

    Special tokens beyond the last row are allowed: texts are never turned into them.
    """
    special = set(tokenizer.all_special_ids)
    special |= {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    beyond = {number: token for token, number in tokenizer.get_vocab().items() if number >= rows}
    used = {number: token for number, token in sorted(beyond.items()) if number not in special}
    if used:
        number, token = next(iter(used.items()))
        more = f" and {len(used) - 1} others" if len(used) > 1 else ""
        message = (
            f"the tokenizer has the token {token!r} with the id {number}{more}, and the model has {rows} embeddings"
        )
        hint = "the embeddings were not resized when the token was added (resize_token_embeddings)"
        raise MissingError(f"{model.path}: {message}", hint=hint)


def longest_input(tokenizer: Any, config: Any) -> int:
    """The most tokens that tokenizer and position table both allow.

    A tokenizer without a limit says 1e30, a model without a table nothing, and there may be no `config`. RoBERTa's
    table, and those of models made like it, begin behind the padding id, so that many places of it are never used.
    """
    table = getattr(config, "max_position_embeddings", None) or 0
    if table <= 0:  # XLNet says -1
        table = UNLIMITED
    if getattr(config, "model_type", "") in BEHIND_PADDING:
        table -= config.pad_token_id + 1
    return int(min(table, tokenizer.model_max_length, UNLIMITED))


def choose_length(model: LocalModel, settings: Settings, limit: int, least: int, usual: int | None = None) -> int:
    """How many tokens a prompt may have: what was asked for, else the model's own choice, or the `usual` one.

    UsageError for less than the `least` that makes a prompt, and for more than the `limit` of what the model reads.
    """
    length = settings.max_length or min(limit, model.max_length or limit, usual or limit)
    if length > limit:
        raise UsageError(f"--max-length {length}: {model.name} reads {limit} tokens at most")
    if length < least:
        raise UsageError(f"--max-length {length}: {model.name} needs {least} tokens to read anything")
    return length


def load(kind: Any, model: LocalModel, what: str, **options: Any) -> Any:
    """What `kind` makes of a model, without a network, and without running code that comes with it unless trusted.

    Code of its own has to be refused outright: not said, transformers would ask on stdout and wait for a key. Trusted,
    it may be code that lies in another repository of the hub.
    """
    if model.gguf:
        from transformers import modeling_gguf_pytorch_utils as gguf_loader

        options["gguf_file"] = model.gguf
        vars(gguf_loader)["tqdm"] = lambda tensors, **_: tensors  # a bar that no setting of transformers silences
    try:
        return kind.from_pretrained(
            model.folder, local_files_only=not model.trusted, trust_remote_code=model.trusted, **options
        )
    except (
        Exception
    ) as error:  # the tokenizers library raises bare Exception, transformers whatever a wrong value causes
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch is not imported here
            raise RunError(f"{model.folder}: out of memory: its {what} do not fit") from error
        message = f"{model.path}: its {what} cannot be loaded: {_first_line(error)}"
        lacks_package = model.gguf and "install" in str(error)  # some loaders raise a ValueError for it
        hint = "pip install 'lbr-cli[gguf]'" if lacks_package else code_hint(model)
        raise MissingError(message, hint=hint) from error


def code_hint(model: LocalModel) -> str:
    """What to do where a model that is not trusted comes with code of its own."""
    if model.trusted or model.gguf or not read_config(model.folder).object("auto_map"):
        return ""
    return CODE_HINT


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    if "ignore_mismatched_sizes" in text:  # which points to a report that nobody sees
        return "their sizes are not those that the configuration names"
    first, _, rest = text.partition("\n")
    return f"{first} {rest.strip().splitlines()[0]}" if first.rstrip().endswith(":") and rest.strip() else first
