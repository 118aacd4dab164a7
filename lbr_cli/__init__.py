"""Rerank search candidates with a local transformers model: `lbr` is the command line, `Reranker` the Python class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lbr_cli.core import Candidate, Document, Query, RankedCandidate, Ranking
    from lbr_cli.errors import LbrError
    from lbr_cli.reranker import Reranker

__version__ = "0.1.0"
__all__ = ["Candidate", "Document", "LbrError", "Query", "RankedCandidate", "Ranking", "Reranker", "__version__"]

MODULES = {"LbrError": "errors", "Reranker": "reranker"}  # the public names that are not in core


def __getattr__(name: str) -> Any:
    """Return a public name. Its module is imported at the first use, so that the command line starts fast."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{MODULES.get(name, 'core')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
