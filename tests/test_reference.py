"""Reference scores: `lbr doctor --record` and `--check`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lbr_cli
from lbr_cli.errors import InputError, RunError
from lbr_cli.reference import Reference, ReferencePair, compare, read_reference
from lbr_cli.reference_pairs import REFERENCE_PAIRS
from support.files import write
from support.program import Program, Result

CPU = ("--device", "cpu", "--dtype", "float32")
VERSIONS = {"lbr": "0.1.0", "torch": "2.13.0"}


def doctor(lbr: Program, *arguments: str) -> Result:
    return lbr("doctor", "--model", "minilm", *CPU, *arguments)


def finding(ended: Result, name: str) -> str:
    return next(line[14:] for line in ended.out.splitlines() if line.startswith(f"{name} "))


def reference(dtype: str = "float32", tokens: tuple[int, ...] = (1, 2, 3), score: float = 0.5) -> Reference:
    first = ReferencePair("a", "b", [[1]], 0.25)
    pairs = [first, ReferencePair("ripe figs", "figs", [list(tokens)], score)]
    return Reference(VERSIONS, "minilm", "f" * 64, "BiEncoder()", "cpu", dtype, 256, pairs)


@pytest.mark.slow
def test_recorded_scores_agree(minilm: Path, lbr: Program, tmp_path: Path) -> None:
    recorded = doctor(lbr, "--record", "scores.json")
    assert (recorded.code, recorded.err, finding(recorded, "record")) == (0, "", "20 pairs")
    values = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert (values["model"], values["device"], values["dtype"]) == ("minilm", "cpu", "float32")
    assert values["versions"]["lbr"] == lbr_cli.__version__
    assert [*values["versions"]] == ["lbr", "python", "transformers", "tokenizers", "torch"]
    assert [(pair["query"], pair["document"]) for pair in values["pairs"]] == [*REFERENCE_PAIRS]
    assert max(len(ids) for pair in values["pairs"] for ids in pair["tokens"]) == values["max_length"] == 256
    checked = doctor(lbr, "--check", "scores.json")
    assert (checked.code, checked.err) == (0, "")
    assert finding(checked, "check").startswith("passed: 20 pairs, ")
    values["pairs"][2]["score"] += 1e-3
    values["pairs"][7]["tokens"][0][1] += 1
    values["versions"]["transformers"] = "5.3.0"
    write(tmp_path, {"scores.json": json.dumps(values)})
    changed = doctor(lbr, "--check", "scores.json")
    assert changed.code == 1
    first, hint = changed.err.splitlines()
    assert first.startswith(f"lbr: scores.json: pair 3: score {values['pairs'][2]['score']:.9g} recorded, ")
    assert "; 2 of 20 pairs differ; recorded with lbr " in first
    assert "transformers 5.3.0, " in first
    assert hint.startswith("lbr: hint: the files of the model are the same; ")


@pytest.mark.slow
def test_a_file_of_another_model_is_an_error(chat_model: Path, minilm: Path, lbr: Program, tmp_path: Path) -> None:
    call = ("doctor", "--model", str(chat_model), "--family", "lb", *CPU)
    assert lbr(*call, "--record", "lb.json").code == 0
    assert lbr(*call, "--check", "lb.json").code == 0
    ended = doctor(lbr, "--check", "lb.json")
    assert ended.code == 1
    assert ended.err.startswith("lbr: lb.json: pair 1: 1 inputs recorded, 2 computed; 20 of 20 pairs differ; ")
    assert ended.err.endswith("lbr: hint: the files of the model differ from those that were recorded\n")


@pytest.mark.parametrize(
    ("computed", "problem"),
    [
        (reference(tokens=(1, 9, 3)), "pair 2: token 2 is 2 recorded, 9 computed"),
        (reference(tokens=(1, 2)), "pair 2: 3 tokens recorded, 2 computed"),
        (
            reference(score=0.50002),
            "pair 2: score 0.5 recorded, 0.50002 computed, 2e-05 apart, 1.5e-05 allowed",
        ),
        (reference("bfloat16", score=0.6), "pair 2: score 0.5 recorded, 0.6 computed, 0.1 apart, 0.05 allowed"),
    ],
)
def test_differences_fail(computed: Reference, problem: str) -> None:
    with pytest.raises(RunError) as error:
        compare("old.json", reference(), computed)
    versions = "lbr 0.1.0, torch 2.13.0, cpu, "
    both = f"recorded with {versions}float32; computed with {versions}{computed.dtype}"
    assert str(error.value) == f"old.json: {problem}; 1 of 2 pairs differ; {both}"


@pytest.mark.parametrize(
    ("recorded", "computed"),
    [
        (reference(), reference(score=0.500014)),
        (reference(score=-20.0), reference(score=-20.0002)),
        (reference("bfloat16"), reference("bfloat16", score=0.54)),
        (reference("bfloat16 computed in float32"), reference(score=0.54)),
    ],
)
def test_differences_within_the_tolerance_pass(recorded: Reference, computed: Reference) -> None:
    assert compare("old.json", recorded, computed).startswith("passed: 2 pairs, ")


def without(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda values: values.pop(key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("dtype"), 'scores.json: "dtype" is missing'),
        (lambda values: values.update(format=2), 'scores.json: "format" is not 1, the format that this version of lbr'),
        (lambda values: values.update(pairs=[]), 'scores.json: "pairs" is empty'),
        (lambda values: values.update(pairs=[3]), 'scores.json: "pairs[0]" has to be a JSON object'),
        (lambda values: values.update(versions={"lbr": 1}), 'scores.json: "versions.lbr" has to be a string'),
        (lambda values: values["pairs"][1].update(score="1"), '"pairs[1].score" has to be a finite number'),
        (lambda values: values["pairs"][1].update(score=10**400), '"pairs[1].score" has to be a finite number'),
        (lambda values: values.update(max_length=True), 'scores.json: "max_length" has to be an integer'),
        (lambda values: values["pairs"][1].update(tokens=[["a"]]), '"pairs[1].tokens" has to be an array of arrays'),
        (lambda values: values["pairs"][0].pop("query"), 'scores.json: "pairs[0].query" is missing'),
    ],
)
def test_invalid_files_are_errors(change: Callable[[dict[str, Any]], object], message: str, tmp_path: Path) -> None:
    values = json.loads(reference().to_json())
    change(values)
    write(tmp_path, {"scores.json": json.dumps(values)})
    with pytest.raises(InputError) as error:
        read_reference(str(tmp_path / "scores.json"))
    assert message in str(error.value)
    assert error.value.hint in ("", "write it with lbr doctor --record")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{\n"format": 1,\n}', "scores.json:3: invalid JSON: "),
        (b"[]", "scores.json: the file has to be a JSON object"),
        (b'{"format": NaN}', "scores.json: invalid JSON: NaN is not a number"),
        (b"\xff", "scores.json: invalid JSON: "),
    ],
)
def test_files_that_are_not_json_objects_are_errors(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_bytes(content)
    with pytest.raises(InputError) as error:
        read_reference(str(tmp_path / "scores.json"))
    assert str(error.value).startswith(f"{tmp_path}/{message}")


def test_an_invalid_file_fails_before_the_model_is_loaded(lbr: Program, tmp_path: Path) -> None:
    write(tmp_path, {"scores.json": "{\n"})
    ended = doctor(lbr, "--check", "scores.json")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("lbr: scores.json:2: invalid JSON: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "minilm", "--record", "a", "--check", "b"], "--check has no effect: --record writes new reference"),
        (["--record", "a"], "--record has no effect: there is no --model"),
        (["--check", "a"], "--check has no effect: there is no --model"),
        (["--model", "minilm", "--record", "-"], "--record -: standard output has the findings; name a file"),
        (["--model", "minilm", "--check", "nowhere.json"], "nowhere.json: cannot be read: No such file or directory"),
        (["--model", "minilm", "--record", "no/such/a"], "no/such/a: cannot be written: No such file or directory"),
        (
            ["--model", "x", "--prompt-file", "p.toml", "--record", "p.toml"],
            "--record p.toml: would overwrite the prompt file p.toml",
        ),
    ],
)
def test_options_without_effect_are_errors(arguments: list[str], message: str, lbr: Program, tmp_path: Path) -> None:
    write(tmp_path, {"p.toml": 'text = "{query} {document}"'})
    ended = lbr("doctor", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"lbr: {message}")


def test_a_failed_test_keeps_the_old_file(chat_model: Path, lbr: Program, tmp_path: Path) -> None:
    write(tmp_path, {"scores.json": "old"})
    ended = lbr("doctor", "--model", str(chat_model), "--family", "monot5", "--record", "scores.json")
    assert ended.code == 2
    assert (tmp_path / "scores.json").read_text(encoding="utf-8") == "old"
