"""What each family asks, and how it reads the answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lbr_cli.core import Answer, Embedding, NextToken, Pair
from lbr_cli.families import FAMILIES, BiEncoder, Classifier, Lb


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_families_are_pure(family: Lb | BiEncoder) -> None:
    assert family.requests("q", "d") == family.requests("q", "d")
    assert all(isinstance(request, family.asks) for request in family.requests("q", "d"))


def test_lb_asks_letter_for_letter() -> None:
    (request,) = Lb().requests("ripe fig", "Figs\nturn purple.")
    assert isinstance(request, NextToken)
    assert request.system == (
        "Given a query and a piece of text, output a score of 1-7 based on how related the query is to the text. "
        "1 means least related and 7 is most related."
    )
    assert request.before + request.document + request.after == (
        "<<<Query>>>\nripe fig\n\n<<<Context>>>\nFigs\nturn purple."
    )
    assert request.labels == ("1", "2", "3", "4", "5", "6", "7")


def digits(**probabilities: float) -> Answer:
    return Answer([math.log(probabilities.get(f"p{i}", 1e-30)) for i in range(1, 8)])


def test_lb_scores_the_expectation_and_does_not_renormalise() -> None:
    assert Lb().score([digits(p5=1.0)]).value == pytest.approx(5.0)
    assert Lb().score([digits(p1=0.1, p7=0.9)]).value == pytest.approx(6.4)
    half = Lb().score([digits(p4=0.25, p6=0.25)])
    assert half.value == pytest.approx(2.5)
    assert half.detail["mass"] == pytest.approx(0.5)
    assert half.detail["digits"] == pytest.approx([0, 0, 0, 0.25, 0, 0.25, 0])


def test_lb_doubts_a_model_that_does_not_answer_in_digits() -> None:
    assert Lb().score([digits(p4=0.6)]).doubt == ""
    assert "does not answer in digits" in Lb().score([digits(p4=0.4)]).doubt


def test_the_bi_encoder_scores_the_cosine() -> None:
    assert BiEncoder().requests("q", "d") == (Embedding("q"), Embedding("d"))
    query, document = np.array([3, 4], np.float32), np.array([4, 3], np.float32)
    assert BiEncoder().score([Answer(query), Answer(document)]).value == pytest.approx(24 / 25)  # type: ignore[arg-type]
    zero = np.zeros(2, np.float32)
    assert BiEncoder().score([Answer(query), Answer(zero)]).value == 0  # type: ignore[arg-type]


def test_the_classifier_squashes_nothing() -> None:
    assert Classifier().requests("q", "d") == (Pair("q", "d"),)
    assert [Classifier().score([Answer([logit])]).value for logit in (12.0, 9.4, 9.1)] == [12.0, 9.4, 9.1]
