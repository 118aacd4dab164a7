"""The local engine on several devices: one process for each, some of which are killed."""

from __future__ import annotations

import os
import pickle
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lbr_cli.core import Document, Query
from lbr_cli.engines import prepare_engine
from lbr_cli.errors import RequestError, RunError
from lbr_cli.scoring import Plan, QueryDocuments, Scorer
from support.agreement import DOCUMENTS, PAIRS, QUERIES, assert_agreement, checkpoint, local_setup, scored, values
from support.long_job import start_long_job, stored_scores
from support.program import Program
from support.progress import RecordedProgress


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("models") / "tiny")


def children(process: int) -> list[int]:
    """Return the processes that a process has started, without the tracker of multiprocessing."""
    pids = [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return [pid for pid in pids if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.slow
def test_scores_equal_those_of_one_device(folder: Path) -> None:
    model, _, settings = local_setup(folder, "lb")
    queries = [Query(text, text) for text in QUERIES]
    one = scored(model, "local", settings, queries, DOCUMENTS, RecordedProgress())
    two = scored(model, "local", replace(settings, device="cpu,cpu"), queries, DOCUMENTS, RecordedProgress())
    assert_agreement(values(two), values(one), 1e-5)


@pytest.mark.slow
def test_cache_keys_equal_those_of_one_device(folder: Path) -> None:
    model, _, settings = local_setup(folder, "lb")
    two = prepare_engine("local", model, replace(settings, device="cpu, cpu"))
    assert two.spec == prepare_engine("local", model, settings).spec


@pytest.mark.slow
def test_errors_name_the_failed_pair_or_process(folder: Path) -> None:
    model, _, settings = local_setup(folder, "lb")
    engine = prepare_engine("local", model, replace(settings, device="cpu,cpu")).load()
    queries = [Query(f"q{number}", "figs " * (900 if number == 2 else 1)) for number in range(4)]
    items = [QueryDocuments(query, [Document("d1", "x"), Document("d2", "y")]) for query in queries]
    pairs = [(item.query, document) for item in items for document in item.documents]
    for planned in (True, False):
        scorer = Scorer(model.family, lambda pairs: engine, RecordedProgress())
        with pytest.raises(
            RequestError, match=r"^query q2, document d1: query too long: the prompt has \d+ tokens without a document"
        ):
            list(scorer.score(items, scorer.plan(lambda: pairs) if planned else Plan(bytes(len(pairs)))))
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):  # an error, and no call that blocks
        engine.check([lambda: None])  # type: ignore[list-item]
    for process in children(os.getpid()):
        os.kill(process, signal.SIGKILL)
    scorer = Scorer(model.family, lambda pairs: engine, RecordedProgress())
    with pytest.raises(RunError, match=r"^the process for cpu has ended by SIGKILL: out of memory\?$"):
        scorer.score_query(Query("1", "figs"), [Document("1", "figs")])


@pytest.mark.slow
@pytest.mark.parametrize("stop", ["child", "interrupt", "kill"])
def test_an_interrupted_job_keeps_its_scores_and_ends_its_processes(folder: Path, tmp_path: Path, stop: str) -> None:
    process = start_long_job(folder, tmp_path, "--device", "cpu,cpu")
    workers = children(process.pid)
    if stop == "child":
        os.kill(workers[1], signal.SIGKILL)
    else:
        process.send_signal(signal.SIGINT if stop == "interrupt" else signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == ({"child": 1, "interrupt": 130, "kill": -9}[stop], ""), err
    assert not (tmp_path / "out.jsonl").exists()
    assert 0 < stored_scores(tmp_path / "c") < 9000
    if stop == "child":
        assert re.search(r"^lbr: the process for cpu has ended by SIGKILL", err, re.MULTILINE), err
    if stop == "interrupt":
        assert re.search(r"^lbr: interrupted: \d+ scores of this run are cached", err, re.MULTILINE), err
        assert "Traceback" not in err
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [worker for worker in workers if Path(f"/proc/{worker}").exists()]


@pytest.mark.slow
def test_the_command_line(folder: Path, lbr: Program) -> None:
    options = ("rerank", "--model", str(folder), "--family", "lb", "--dtype", "float32")
    two = lbr(*options, "--device", "cpu,cpu", stdin=PAIRS.encode())
    one = lbr(*options, "--device", "cpu", stdin=PAIRS.encode())
    assert (two.code, one.code) == (0, 0), two.err
    assert [record["doc_id"] for record in two.records] == [record["doc_id"] for record in one.records]
    for record, other in zip(two.records, one.records, strict=True):
        assert record["score"] == pytest.approx(other["score"], abs=1e-6)
    assert two.err.splitlines()[-1].endswith("with tiny (2 processes on cpu, cpu: float32)")


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cpu,auto", "lbr: --device cpu,auto: auto is one device"),
        ("cpu,", "lbr: --device : unknown device"),
        ("cpu,cpu:7", "lbr: --device cpu:7: not on this machine"),
    ],
)
def test_invalid_lists_of_devices_are_errors(folder: Path, lbr: Program, device: str, message: str) -> None:
    ended = lbr("rerank", "--model", str(folder), "--family", "lb", "--device", device, stdin=PAIRS.encode())
    assert (ended.code, ended.out, ended.err.splitlines()[0]) == (2, "", message)


def test_a_worker_of_ray_has_one_device(folder: Path, lbr: Program) -> None:
    pytest.importorskip("ray", reason="ray is not here: pip install 'lbr-cli[ray]'")
    options = ("--model", str(folder), "--family", "lb", "--engine", "ray", "--device", "cpu,cpu")
    ended = lbr("rerank", *options, stdin=PAIRS.encode())
    message = "lbr: --device cpu,cpu: a worker of ray computes on one device"
    assert (ended.code, ended.out, ended.err.splitlines()[0]) == (2, "", message)
