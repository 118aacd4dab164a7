"""`lbr doctor`: its output, and its failure if scores are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import lbr_cli
from lbr_cli.doctor import examine
from lbr_cli.engines import Settings
from lbr_cli.engines.local.packed import Packed
from lbr_cli.errors import RunError
from lbr_cli.models import resolve
from lbr_cli.progress import Console
from support.program import Program


def findings(text: str) -> dict[str, str]:
    return {line[:14].strip(): line[14:] for line in text.splitlines()}


def test_versions_and_devices(lbr: Program) -> None:
    ended = lbr("doctor")
    found = findings(ended.out)
    assert (ended.code, ended.err) == (0, "")
    assert found["lbr"].startswith(f"{lbr_cli.__version__}, Python 3.")
    assert torch.__version__.startswith(found["torch"])  # which may also name the build: 2.14.1+cu130
    assert found["transformers"] == transformers.__version__
    assert "float32" in found["cpu"]
    assert "self-test" not in found


def test_a_model_with_correct_scores_passes(chat_model: Path, lbr: Program) -> None:
    ended = lbr("doctor", "-m", str(chat_model), "--family", "lb", "--device", "cpu", "--dtype", "float32")
    found = findings(ended.out)
    assert (ended.code, ended.err) == (0, "")
    assert found["model"] == f"tiny-chat, family lb, {chat_model}"
    assert found["tokenizer"].endswith(f" of transformers {transformers.__version__}, equal to tokenizer.json")
    assert found["computes"] == "cpu, float32"
    assert found["attention"] == "packed without padding, prefixes shared"
    assert found["self-test"].startswith("passed: ")


def test_the_error_of_rounded_weights_is_not_a_failure(chat_model: Path, lbr: Program) -> None:
    ended = lbr("doctor", "-m", str(chat_model), "--family", "lb", "--device", "cpu", "--dtype", "bfloat16")
    assert ended.code == 0
    assert findings(ended.out)["self-test"].endswith("0.05 allowed")


def test_minilm_passes(minilm: Path, lbr: Program) -> None:
    ended = lbr("doctor", "--model", "minilm")
    assert ended.code == 0
    assert findings(ended.out)["self-test"].startswith("passed: ")


def test_wrong_scores_fail(chat_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Packed.read

    def wrong(self: Packed, prompts: Any, keys: Any, budget: Any) -> Any:
        checked = "self-check" in keys  # the check while the model is loaded passes
        for batch, tokens, hidden in read(self, prompts, keys, budget):
            yield batch, tokens, hidden if checked else hidden.flip(0)  # swaps the scores

    monkeypatch.setattr(Packed, "read", wrong)
    lines = []
    with (
        Console(bar=False, quiet=True) as console,
        pytest.raises(
            RunError, match=r"self-test failed: scores [\d.]+ and [\d.]+, but [\d.]+ and [\d.]+ one by one in float32"
        ),
    ):
        lines.extend(examine(resolve(str(chat_model), "lb"), Settings("cpu", "float32"), console))


def test_an_unknown_option_is_an_error_with_a_hint_to_help(lbr: Program) -> None:
    ended = lbr("doctor", "--corpus", "x")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines()[-1] == "lbr: hint: see lbr doctor --help"
