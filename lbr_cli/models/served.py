"""The model of a rerank server, which scores pairs itself."""

from __future__ import annotations

from lbr_cli.families.served import Served
from lbr_cli.models.known import ALIASES
from lbr_cli.models.model import ServedModel, short_name


def served_reranker(name: str, *, named: bool = True) -> ServedModel:
    """Return the model that a rerank server calls `name`; if that is an alias, the server may use the hub id."""
    known = ALIASES.get(name)
    short = short_name(name.rstrip("/").rsplit("/", 1)[-1])
    return ServedModel(short, name, Served(), known.hub_id if known else None, named=named)
