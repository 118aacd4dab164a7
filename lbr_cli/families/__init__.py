"""Every way to ask a model and to read a score from its answer, one file each.

A family is pure: no torch, no tokenizer, no network. A new one is one file and one entry in `FAMILIES`; the tests
that run over the tuple pick it up.
"""

from __future__ import annotations

from lbr_cli.core import Family
from lbr_cli.families.bi_encoder import BiEncoder
from lbr_cli.families.classifier import Classifier
from lbr_cli.families.lb import Lb, LbRev

# those that --family may name
FAMILIES: tuple[Family, ...] = (Lb(), LbRev(), Classifier(), BiEncoder())

__all__ = ["FAMILIES", "BiEncoder", "Classifier", "Lb", "LbRev", "family"]


def family(name: str) -> Family:
    """The family of that name."""
    return next(known for known in FAMILIES if known.name == name)
