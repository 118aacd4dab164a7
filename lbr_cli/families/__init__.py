"""Every way to ask a model and to read a score from its answer, one file each.

A family is pure: no torch, no tokenizer, no network. A new one is one file and one entry in `FAMILIES`; the tests
that run over the tuple pick it up.
"""

from __future__ import annotations

from lbr_cli.core import Family
from lbr_cli.families.bge_gemma import BgeGemma
from lbr_cli.families.bi_encoder import BiEncoder
from lbr_cli.families.classifier import Classifier
from lbr_cli.families.lb import Lb, LbRev
from lbr_cli.families.monot5 import MonoT5
from lbr_cli.families.mxbai_v2 import MxbaiV2
from lbr_cli.families.next_token import Template, UserPrompt
from lbr_cli.families.qwen3 import Qwen3

# those that --family may name, with nothing chosen
FAMILIES: tuple[Family, ...] = (
    *(Lb(), LbRev(), Qwen3(), MxbaiV2(), BgeGemma(), UserPrompt()),
    *(Classifier(), MonoT5(), BiEncoder()),
)

__all__ = [
    "FAMILIES",
    "BgeGemma",
    "BiEncoder",
    "Classifier",
    "Lb",
    "LbRev",
    "MonoT5",
    "MxbaiV2",
    "Qwen3",
    "Template",
    "UserPrompt",
    "family",
]


def family(name: str) -> Family:
    """The family of that name, with nothing chosen."""
    return next(known for known in FAMILIES if known.name == name)
