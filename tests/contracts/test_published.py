"""Scores that sentence-transformers has published for the models with an alias: pytest -m hub, and minilm always."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lbr_cli.models import ALIASES
from lbr_cli.models.known import KNOWN
from support.program import Program
from support.published import PUBLISHED, check_published

OF_HUB = [name for name in PUBLISHED if ALIASES[name].hub_id]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_minilm_reproduces_its_published_scores(dtype: str, minilm: Path, lbr: Program) -> None:
    check_published(lbr, "minilm", PUBLISHED["minilm"], dtype)


def test_a_wrong_score_fails_the_comparison(minilm: Path, lbr: Program) -> None:
    expected = PUBLISHED["minilm"]
    moved = replace(expected, values=[value * 1.02 for value in expected.values])
    with pytest.raises(AssertionError, match="document 0"):
        check_published(lbr, "minilm", moved)


def test_verified_aliases_have_published_scores() -> None:
    assert [known.name for known in KNOWN if known.verified] == [name for name in PUBLISHED if name not in OF_HUB]


@pytest.mark.hub
@pytest.mark.parametrize("alias", OF_HUB)
def test_models_reproduce_their_published_scores(alias: str, lbr: Program) -> None:
    """The folder of a bi-encoder is scored, not its alias: its prompts are then those of its files."""
    published, model = PUBLISHED[alias], alias
    if published.is_bi_encoder:
        fetched = lbr("models", "fetch", alias)
        assert fetched.code == 0, fetched.err
        model = fetched.out.strip()
    check_published(lbr, model, published)
