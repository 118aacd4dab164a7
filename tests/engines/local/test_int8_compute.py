"""`--dtype int8` on the CPU: scores close to float32, the same in any batch, or a refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from lbr_cli.engines import Settings
from lbr_cli.engines.local import prepare
from lbr_cli.engines.local.devices import choose_dtype
from lbr_cli.engines.local.int8_compute import Int8Linear, compute_in_int8, measure_speed
from lbr_cli.engines.local.int8_kernel import int8_kernel
from lbr_cli.errors import MissingError, UsageError
from lbr_cli.identity import Identity
from lbr_cli.models import fetch, resolve
from support import checkpoints
from support.engines import answered, ask, load, local_scores
from support.plain_loop import engine, max_difference, scores
from support.program import Program
from support.progress import RecordedProgress

pytestmark = pytest.mark.skipif(not torch.cpu.get_capabilities().get("avx2"), reason="int8 needs AVX2")

QUERIES = ["ripe figs", "trams"]
DOCUMENTS = ["x", "Ripe figs turn purple. " * 6, "Lisbon trams use 900 mm gauge.", "salt\n\nbread\n" * 3]


def int8_layers(model: Any) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, Int8Linear)]


def test_a_causal_model_scores_close_to_float32(chat_model: Path) -> None:
    loaded = engine(chat_model, device="cpu", dtype="int8")
    exact = engine(chat_model, device="cpu", dtype="float32")
    assert loaded.description == f"cpu, {int8_kernel().description}"
    assert loaded.attention == "packed without padding, prefixes shared"
    assert 0 < max_difference(scores(loaded), scores(exact)) < 0.02
    assert len(int8_layers(loaded.model)) == 2 * 7
    assert {tensor.dtype for tensor in loaded.model.parameters()} == {torch.float32}


def test_the_batch_does_not_change_a_score(chat_model: Path) -> None:
    together = scores(engine(chat_model, device="cpu", dtype="int8"))
    one_by_one = scores(engine(chat_model, device="cpu", dtype="int8", batch_tokens=1))
    assert max_difference(together, one_by_one) < 1e-6  # rounding of the head, which computes in float32


def test_the_head_of_a_cross_encoder_is_not_quantised(tmp_path: Path) -> None:
    folder = checkpoints.classifier(tmp_path, "Bert", checkpoints.bytes_tokenizer(framed=True))
    found, exact = (local_scores(folder, None, dtype, QUERIES, DOCUMENTS) for dtype in ("int8", "float32"))
    assert 0 < max_difference([one.value for one in found], [one.value for one in exact]) < 0.05
    loaded = load(resolve(str(folder)), Settings("cpu", "int8"))
    assert all(".encoder.layer." in name for name in int8_layers(loaded.model))
    assert type(loaded.model.bert.pooler.dense) is torch.nn.Linear
    assert type(loaded.model.classifier) is torch.nn.Linear


def test_the_batch_does_not_change_a_vector(minilm: Path) -> None:
    model = fetch(resolve(str(minilm)), RecordedProgress())
    loaded = load(model, Settings("cpu", "int8"))
    texts = [text * (1 + number) for number in range(6) for text in DOCUMENTS]
    requests = [request for text in texts for request in ask(model.family, text, "")]
    together = [answer.values for answer in answered(loaded, requests)]
    alone = [answered(loaded, [request])[0].values for request in requests]
    assert max_difference(np.ravel(together).tolist(), np.ravel(alone).tolist()) < 1e-6


def test_the_batch_does_not_change_a_score_of_a_cross_encoder(tmp_path: Path) -> None:
    folder = checkpoints.classifier(tmp_path, "Bert", checkpoints.bytes_tokenizer(framed=True))
    model = fetch(resolve(str(folder)), RecordedProgress())
    loaded = load(model, Settings("cpu", "int8"))
    requests = [ask(model.family, query, text)[0] for query in QUERIES for text in DOCUMENTS]
    together = [answer.values for answer in answered(loaded, requests)]
    alone = [answered(loaded, [request])[0].values for request in requests]
    assert max_difference(np.ravel(together).tolist(), np.ravel(alone).tolist()) < 1e-6


def test_a_bi_encoder_scores_close_to_float32(minilm: Path) -> None:
    found, exact = (local_scores(minilm, None, dtype, QUERIES, DOCUMENTS) for dtype in ("int8", "float32"))
    assert 0 < max_difference([one.value for one in found], [one.value for one in exact]) < 0.03


def test_layers_whose_weights_are_read_elsewhere_are_not_quantised(tmp_path: Path) -> None:
    folder = checkpoints.t5(tmp_path)
    loaded = load(resolve(str(folder), "monot5"), Settings("cpu", "int8"))
    names = int8_layers(loaded.model)
    assert any(name.endswith("DenseReluDense.wi") for name in names)
    assert not any(name.endswith(".wo") for name in names)
    found, exact = (local_scores(folder, "monot5", dtype, QUERIES, DOCUMENTS) for dtype in ("int8", "float32"))
    assert max_difference([one.value for one in found], [one.value for one in exact]) < 0.1


def test_int8_scores_have_their_own_cache_keys(chat_model: Path) -> None:
    model = resolve(str(chat_model), "lb")
    specs = [prepare(model, Settings("cpu", dtype)).spec for dtype in ("int8", "float32")]
    assert specs[0].dtype == int8_kernel().description
    keys = {Identity({}, "local", model.family, spec).key for spec in specs}
    assert len(keys) == 2


class InPlace(torch.nn.Module):
    """A layer that changes its input between two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(16, 16), torch.nn.Linear(16, 16)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = hidden.clone()
        first = self.first(hidden)
        return first + self.second(hidden.mul_(2))


class ReadsWeight(torch.nn.Module):
    """A layer that reads the weight of a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(16, 16)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(hidden, self.linear.weight)


class Model(torch.nn.Module):
    """A model of one layer, as transformers' own models look from outside."""

    def __init__(self, *layers: torch.nn.Module) -> None:
        super().__init__()
        self.config = transformers.PretrainedConfig(is_encoder_decoder=False)
        self.device = torch.device("cpu")
        self.embedding = torch.nn.Embedding(32, 16)
        self.layers = torch.nn.ModuleList(layers)

    @property
    def base_model(self) -> Model:
        return self

    def forward(self, input_ids: torch.Tensor) -> Any:
        hidden = self.embedding(input_ids)
        for layer in self.layers:
            hidden = layer(hidden)
        return transformers.modeling_outputs.BaseModelOutput(last_hidden_state=hidden)


@pytest.mark.parametrize(
    ("layers", "problem"),
    [
        ([], "a Model has no linear layers"),
        ([InPlace()], "a Model changes the inputs of its layers in place"),
        ([ReadsWeight()], "no attribute 'weight'"),
    ],
)
def test_unsupported_models_are_refused(layers: list[torch.nn.Module], problem: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(MissingError, match=problem):
        compute_in_int8(Model(*layers), [[1, 2, 3], [4, 5]])


def test_layers_with_a_common_input_quantise_it_once(chat_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = engine(chat_model, device="cpu", dtype="int8")
    kernel = type(int8_kernel())
    quantize = kernel.quantize
    calls = []

    def counted(self: Any, inputs: torch.Tensor) -> Any:
        calls.append(len(inputs))
        return quantize(self, inputs)

    monkeypatch.setattr(kernel, "quantize", counted)
    scores(loaded, [("a", "b")])
    # query, key and value; output; gate and up; down; the last layer computes keys and values of all tokens first
    assert len(calls) == 4 + 5


def test_speed_is_measured_in_both_precisions(chat_model: Path) -> None:
    speed = measure_speed(engine(chat_model, device="cpu", dtype="int8").model)
    assert speed.int8 > 0
    assert speed.float32 > 0


def test_compilation_is_refused(chat_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LBR_COMPILE", "on")
    with pytest.raises(UsageError, match="LBR_COMPILE=on: unsupported with --dtype int8"):
        engine(chat_model, device="cpu", dtype="int8")


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_other_devices_are_refused(device: str) -> None:
    with pytest.raises(UsageError, match=rf"--dtype int8: unsupported on {device}, only on CPUs"):
        choose_dtype("int8", torch.device(device))


def test_auto_is_never_int8() -> None:
    assert choose_dtype("auto", torch.device("cpu")) in (torch.float32, torch.bfloat16)


def test_the_command_refuses_another_device(files: Path, chat_model: Path, lbr: Program) -> None:
    model = ("-m", str(chat_model), "--family", "lb", "--device", "mps", "--dtype", "int8")
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", *model, cwd=files)
    assert (ended.code, ended.out) == (2, "")


@pytest.mark.slow
def test_doctor_measures_speed_and_error(chat_model: Path, lbr: Program) -> None:
    ended = lbr("doctor", "-m", str(chat_model), "--family", "lb", "--device", "cpu", "--dtype", "int8")
    assert (ended.code, ended.err) == (0, "")
    lines = {line[:14].strip(): line[14:] for line in ended.out.splitlines()}
    assert lines["computes"] == f"cpu, {int8_kernel().description}"
    assert lines["int8 speed"].startswith("matrix products at ")
    assert lines["int8 error"].startswith("20 pairs differ from float32 by at most 0.0")
    assert lines["self-test"].endswith("0.1 allowed")
