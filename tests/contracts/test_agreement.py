"""Every engine that computes gives the same scores, in the same order, from the same tokens.

The reference is a plain transformers model, one prompt at a time in float32. vLLM is tried with `pytest -m vllm` in an
environment that has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lbr_cli.engines import Settings, Workers
from lbr_cli.models import Model
from support.agreement import (
    FAMILIES,
    TOLERANCE,
    Reference,
    assert_agreement,
    checkpoint,
    local_setup,
    scores,
    server_setup,
    values,
)
from support.serving import serving


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("models") / "tiny")


Engines = Callable[[str, str], tuple[Model, str, Settings]]


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    return Reference(folder)


@pytest.fixture(params=["local", "plain", "server"])
def engine(request: pytest.FixtureRequest, folder: Path) -> Iterator[Engines]:
    """Yield a function that returns the setup of an engine for a family and a precision."""
    kind = request.param
    if kind == "server":
        with serving(folder) as server:
            yield lambda name, dtype: server_setup(folder, server, name)
    else:
        yield lambda name, dtype: local_setup(folder, name, dtype, plain=kind == "plain")


@pytest.mark.parametrize("name", FAMILIES)
def test_float32_scores_equal_a_plain_loop(engine: Engines, reference: Reference, name: str) -> None:
    assert_agreement(values(scores(*engine(name, "float32"))), reference.scores(name), TOLERANCE["float32"])


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_scores_of_workers_equal_a_plain_loop(folder: Path, reference: Reference) -> None:
    """The family is `lb-rev`, which shares documents between queries; `test_ray` compares `lb`."""
    pytest.importorskip("ray", reason="ray is not installed: pip install 'lbr-cli[ray]'")
    model, _, settings = local_setup(folder, "lb-rev", workers=Workers(1))
    assert_agreement(values(scores(model, "ray", settings)), reference.scores("lb-rev"), TOLERANCE["float32"])


def test_bfloat16_scores_are_close_to_float32(folder: Path, reference: Reference) -> None:
    found = values(scores(*local_setup(folder, "lb", "bfloat16")))
    assert_agreement(found, reference.scores("lb"), TOLERANCE["bfloat16"])
