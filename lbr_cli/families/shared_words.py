"""The family of `--engine overlap`, which has no model: the share of the query's words that are in the document.

Scale: 0 to 1. For testing files, not for ranking.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lbr_cli.families.served import Served


@dataclass(frozen=True, slots=True)
class SharedWords(Served):
    """The engine scores the pair itself, as a rerank server does."""

    name: ClassVar[str] = "shared-words"
    scale: ClassVar[str] = "share of words, 0 to 1"
