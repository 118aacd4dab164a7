"""Whether a snapshot in the hub's cache holds every file that loading the model needs.

The cache may hold a part of a repository: `AutoTokenizer.from_pretrained` fetches no weights, and a download may have
been interrupted. The cache does not record which files a repository has, so they are derived from the present ones.
"""

from __future__ import annotations

from pathlib import Path

from lbr_cli.models.digests import auto_maps, read_leniently, shards_of

VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
WHOLE = ("*.safetensors", "pytorch_model*.bin")
ADAPTER = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


def missing_part(folder: Path, *, tokenizer_only: bool, trusted: bool) -> str:
    """Return the name of a file or part that a snapshot lacks, "" if it is complete. `trusted` needs code, too."""
    main = folder / _transformer_folder(folder)
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
    code = _code_files(main) if trusted else []
    return next((name for name in code if not (main / name).exists()), "")


def _transformer_folder(folder: Path) -> str:
    """Return where sentence-transformers keeps the weights: "", or the folder of the first module."""
    listed = read_leniently(folder / "modules.json")
    first = listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], dict) else {}
    return str(first.get("path") or "")


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
