"""The extension of an output file, which chooses its format."""

import os
from collections.abc import Iterable

from lbr_cli.errors import UsageError


def checked_extension(option: str, path: str, known: Iterable[str], *, compressed: bool = False) -> str:
    """Return the extension of an output file, which may be `compressed`. UsageError if it is not one of the known."""
    plain = path.removesuffix(".gz").removesuffix(".zst") if compressed else path
    extension = os.path.splitext(plain)[1]
    if extension not in known:
        raise UsageError(f"{option} {path}: unknown extension", hint=f"use {' or '.join(known)}")
    return extension
