"""Check whether a snapshot in the hub's cache holds every file that loading the model needs.

The cache may hold a part of a repository: `AutoTokenizer.from_pretrained` fetches no weights, and a download may have
been interrupted. The cache does not record which files a repository has, so they are derived from the present ones.
"""

from __future__ import annotations

from pathlib import Path

from lbr_cli.models.digests import auto_maps, read_leniently, shards_of
from lbr_cli.models.late_interaction import METADATA, STANFORD
from lbr_cli.models.sentence_transformers import MODULES

VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
MODULES_WITH_WEIGHTS = ("Dense", "LayerNorm")  # of sentence-transformers, after the Transformer
WHOLE = ("*.safetensors", "pytorch_model*.bin")
ADAPTER = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


def missing_part(folder: Path, *, tokenizer_only: bool, trusted: bool) -> str:
    """Return the name of a missing file or part of a snapshot, "" if none is missing. If `trusted`, code is a part."""
    first, *others = folders_of_weights(folder)
    main = folder / first
    if (main / ADAPTER).exists() and not tokenizer_only:  # all else may be in the repository of the base model
        return "" if any((main / name).exists() for name in ADAPTER_WEIGHTS) else "weights"
    if not any(path.exists() for pattern in VOCABULARIES for path in main.glob(pattern)):
        return "a tokenizer"
    if tokenizer_only:
        return ""
    if not (main / "config.json").exists():
        return "config.json"
    if not _has_weights(main):
        return "weights"
    config = read_leniently(main / "config.json")
    is_stanford = isinstance(config, dict) and STANFORD in (config.get("architectures") or ())
    if is_stanford and not (folder / MODULES).exists() and not (main / METADATA).exists():
        return METADATA
    incomplete = next((name for name in others if not _has_weights(folder / name)), None)
    if incomplete is not None:
        return f"the weights of {incomplete}"
    code = _code_files(main) if trusted else []
    return next((name for name in code if not (main / name).exists()), "")


def folders_of_weights(folder: Path) -> list[str]:
    """Return the folders of a snapshot that hold weights: "" for its root, others with a slash at the end.

    The first is that of the model itself; the others are those of the Dense and LayerNorm modules.
    """
    listed = read_leniently(folder / "modules.json")
    modules = [module for module in listed if isinstance(module, dict)] if isinstance(listed, list) else []
    kinds = [str(module.get("type")).rpartition(".")[2] for module in modules]
    paths = [str(module.get("path") or "").strip("/") for module in modules]
    others = [path for kind, path in zip(kinds[1:], paths[1:], strict=True) if kind in MODULES_WITH_WEIGHTS and path]
    return [f"{path}/" if path else "" for path in dict.fromkeys([*(paths[:1] or [""]), *others])]


def _has_weights(folder: Path) -> bool:
    """Return whether one form of the weights is complete: all shards of an index, or a file without an index."""
    for index, pattern in zip(INDEXES, WHOLE, strict=True):
        if (folder / index).exists():
            shards = shards_of(folder / index)
            if shards and all(path.exists() for path in shards):
                return True
        elif any(path.exists() for path in folder.glob(pattern)):
            return True
    return False


def _code_files(folder: Path) -> list[str]:
    """Return the Python files of this repository that `auto_map` names."""
    entries = [entry for mapped in auto_maps(folder) if isinstance(mapped, dict) for entry in mapped.values()]
    classes = [name for entry in entries for name in (entry if isinstance(entry, list) else [entry])]
    return [f"{name.split('.')[0]}.py" for name in classes if isinstance(name, str) and "--" not in name]
