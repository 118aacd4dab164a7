"""A model's files -> its tokenizer and weights, refused rather than guessed at where something does not fit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from tokenizers import normalizers
from transformers import modeling_gguf_pytorch_utils as gguf_loader

from lbr_cli.engines import UNLIMITED
from lbr_cli.errors import MissingError, RunError
from lbr_cli.models import Model
from lbr_cli.models.files import CODE_HINT, OTHER_FAMILY_HINT, read_config

# what goes wrong is raised too, and told in our own words
transformers.utils.logging.set_verbosity(logging.CRITICAL)
transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]

# Auto classes whose models end in hidden states
HIDDEN_STATES = (transformers.AutoModel, transformers.AutoModelForTextEncoding)
BEHIND_PADDING = (
    *("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "data2vec-text", "longformer"),
    *("mpnet", "luke", "mluke", "lilt", "xmod", "ibert", "esm"),
)


def load_config(model: Model) -> Any:
    """The model's configuration as transformers understands it."""
    return _load(transformers.AutoConfig, model, "configuration")


def load_tokenizer(model: Model) -> Any:
    """The model's own fast tokenizer, the only kind that tells which characters a token stands for."""
    tokenizer = _load(transformers.AutoTokenizer, model, "tokenizer")
    names = [model.gguf] if model.gguf else tokenizer.vocab_files_names.values()
    if not any((model.place / name).exists() for name in names):  # transformers then makes one up, of no words
        raise MissingError(f"{model.place}: holds no tokenizer (none of {', '.join(sorted(names))})")
    if not tokenizer.is_fast:
        raise MissingError(f"{model.place}: it has no fast tokenizer (tokenizer.json)")
    if model.gguf and isinstance(tokenizer, transformers.Qwen2Tokenizer):
        tokenizer.backend_tokenizer.normalizer = normalizers.NFC()  # Qwen's, which a GGUF file has no place for
    return tokenizer


def load_model(kind: Any, model: Model, device: torch.device, dtype: torch.dtype) -> Any:
    """The weights as a model of `kind`, an Auto class of transformers, ready for inference.

    Raises MissingError where the folder asks for code of its own that is not trusted, or where a weight is not in it
    and would be made up.
    """
    loaded, info = _load(kind, model, "weights", dtype=dtype, output_loading_info=True)
    made_up = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if kind in HIDDEN_STATES:
        made_up = [key for key in made_up if not key.startswith("pooler.")]  # it makes what a bi-encoder leaves alone
    if made_up:
        names = ", ".join(made_up[:3]) + (", …" if len(made_up) > 3 else "")
        raise MissingError(
            f"{model.place}: it does not hold all the weights of a {type(loaded).__name__}: {names}",
            hint=_code_hint(model) or OTHER_FAMILY_HINT,
        )
    return loaded.eval().requires_grad_(False).to(device)


@contextmanager
def in_float32(model: Any) -> Iterator[None]:
    """For as long as it lasts the model computes in float32; what was float32 before stays so afterwards."""
    half = [
        (tensor, tensor.dtype)
        for tensor in [*model.parameters(), *model.buffers()]
        if tensor.is_floating_point() and tensor.dtype != torch.float32
    ]
    try:
        for tensor, _ in half:
            tensor.data = tensor.data.float()
        yield
    finally:
        for tensor, dtype in half:
            tensor.data = tensor.data.to(dtype)


def finite(values: torch.Tensor, model: Any, compute: Callable[[int], torch.Tensor]) -> torch.Tensor:
    """`values`, float32, of which those rows that are not finite are computed again in float32.

    `compute` gives one row, [1, ...], by its place. What a float32 model makes stays as it is.
    """
    odd = (~values.flatten(1).isfinite().all(1)).nonzero().flatten().tolist()
    if odd and model.dtype != torch.float32:
        with in_float32(model):
            values[odd] = torch.cat([compute(row) for row in odd])
    return values


def longest_input(tokenizer: Any, config: Any) -> int:
    """The most tokens that tokenizer and position table both allow.

    A tokenizer without a limit says 1e30, a model without a table nothing. RoBERTa's table, and those of models made
    like it, begin behind the padding id, so that many places of it are never used.
    """
    table = getattr(config, "max_position_embeddings", None) or 0
    if table <= 0:  # XLNet says -1
        table = UNLIMITED
    if config.model_type in BEHIND_PADDING:
        table -= config.pad_token_id + 1
    return int(min(table, tokenizer.model_max_length, UNLIMITED))


def _load(kind: Any, model: Model, what: str, **options: Any) -> Any:
    """What `kind` makes of a model, without a network, and without running code that comes with it unless trusted.

    Code of its own has to be refused outright: not said, transformers would ask on stdout and wait for a key. Trusted,
    it may be code that lies in another repository of the hub.
    """
    if model.gguf:
        options["gguf_file"] = model.gguf
        vars(gguf_loader)["tqdm"] = lambda tensors, **_: tensors  # a bar that no setting of transformers silences
    try:
        return kind.from_pretrained(
            model.place, local_files_only=not model.trusted, trust_remote_code=model.trusted, **options
        )
    except torch.OutOfMemoryError as error:
        raise RunError(f"{model.place}: its {what} do not fit into the memory that is free") from error
    except (ImportError, OSError, ValueError, KeyError, AttributeError, TypeError, RuntimeError) as error:
        message = f"{model.place / model.gguf}: its {what} cannot be loaded: {_first_line(error)}"
        lacks_package = model.gguf and "install" in str(error)  # some loaders raise a ValueError for it
        hint = "pip install 'lbr-cli[gguf]'" if lacks_package else _code_hint(model)
        raise MissingError(message, hint=hint) from error


def _code_hint(model: Model) -> str:
    """What to do where a model that is not trusted comes with code of its own."""
    if model.trusted or model.gguf or "auto_map" not in read_config(model.place):
        return ""
    return CODE_HINT


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    if "ignore_mismatched_sizes" in text:  # which points to a report that nobody sees
        return "their sizes are not those that the configuration names"
    first, _, rest = text.partition("\n")
    return f"{first} {rest.strip().splitlines()[0]}" if first.rstrip().endswith(":") and rest.strip() else first
