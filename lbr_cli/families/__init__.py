"""The families of models: how to prompt a model and compute a score from its answer, one file each.

A family is pure: no torch, no tokenizer, no network. To add one, write its file and add it to `FAMILIES`, from which
`--family`, the help texts and the tests derive their lists.
"""

from __future__ import annotations

from lbr_cli.core import Family
from lbr_cli.families.bge_gemma import BgeGemma
from lbr_cli.families.bi_encoder import BiEncoder
from lbr_cli.families.classifier import Classifier
from lbr_cli.families.ctxl import Ctxl
from lbr_cli.families.late_interaction import LateInteraction
from lbr_cli.families.lb import Lb, LbRev
from lbr_cli.families.logit_score import LogitScore
from lbr_cli.families.monot5 import MonoT5
from lbr_cli.families.mxbai_v2 import MxbaiV2
from lbr_cli.families.next_token import Template, UserPrompt
from lbr_cli.families.qwen3 import Qwen3
from lbr_cli.families.zerank import Zerank

# with default options
FAMILIES: tuple[Family, ...] = (
    *(Lb(), LbRev(), Qwen3(), MxbaiV2(), BgeGemma(), Zerank(), Ctxl(), LogitScore(), UserPrompt()),
    *(Classifier(), MonoT5(), BiEncoder(), LateInteraction()),
)

__all__ = ["FAMILIES", "Template", "UserPrompt", "family"]
__all__ += ["BgeGemma", "BiEncoder", "Classifier", "Ctxl", "LateInteraction", "Lb", "LbRev", "LogitScore", "MonoT5"]
__all__ += ["MxbaiV2", "Qwen3", "Zerank"]


def family(name: str) -> Family:
    """Return the family of that name, with default options."""
    return next(known for known in FAMILIES if known.name == name)
