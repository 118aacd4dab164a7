"""The engine ray: several local engines, some of which are killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lbr_cli.core import Document, Query
from lbr_cli.engines import ComputeSpec, Workers, prepare_engine
from lbr_cli.errors import MissingError, RequestError, RunError
from lbr_cli.families import BiEncoder
from lbr_cli.models import fetch, resolve
from lbr_cli.scoring import Plan, QueryDocuments, Scorer
from support.agreement import PAIRS, QUERIES, assert_agreement, checkpoint, local_setup, scored, values
from support.long_job import start_long_job
from support.paths import ROOT
from support.program import Program
from support.progress import RecordedProgress

ray = pytest.importorskip("ray", reason="ray is not here: pip install 'lbr-cli[ray]'")
engine = pytest.importorskip("lbr_cli.engines.ray")
cluster = pytest.importorskip("lbr_cli.engines.ray.cluster")
pytestmark = pytest.mark.xdist_group("ray")  # one cluster for all tests


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("models") / "tiny")


def on_ray(folder: Path, workers: int = 2) -> tuple[Any, Any]:
    model, _, settings = local_setup(folder, "lb", workers=Workers(workers))
    return model, settings


@pytest.mark.weekly
def test_a_killed_worker_is_replaced_and_its_requests_are_repeated(folder: Path) -> None:
    model, settings = on_ray(folder)
    documents = [Document(str(index), f"{index} bread needs salt " * (1 + index % 7)) for index in range(90)]
    queries = [Query(f"{text} {number}", f"{text} {number}") for text in QUERIES for number in range(4)]
    expected = scored(model, "local", settings, queries, documents, RecordedProgress())

    prepared: Any = prepare_engine("ray", model, settings)
    cluster = prepared.load()
    progress = RecordedProgress()
    scorer = Scorer(model.family, lambda pairs: cluster, progress)
    plan = scorer.plan(lambda: [(query, document) for query in queries for document in documents])
    found = []
    for index, (_, scores) in enumerate(scorer.score([QueryDocuments(query, documents) for query in queries], plan)):
        if index in (2, 5):
            _kill_a_worker(prepared.workers[0])
        found.append(scores)
    # other batches change scores of a model with random weights more
    assert_agreement(values(found), values(expected), 1e-5)
    assert progress.pairs == len(queries) * len(documents)


def _kill_a_worker(worker: Any) -> None:
    """Kill a worker, as the loss of a node or a lack of memory does."""
    pid = ray.get(worker.__ray_call__.remote(lambda worker: os.getpid()))
    os.kill(pid, signal.SIGKILL)


@pytest.mark.weekly
def test_errors_name_the_failed_pair_or_the_lost_worker(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "RESTARTS", 0)
    model, settings = on_ray(folder)
    prepared: Any = prepare_engine("ray", model, settings)
    cluster = prepared.load()
    queries = [Query(f"q{number}", "figs " * (900 if number == 2 else 1)) for number in range(4)]
    items = [QueryDocuments(query, [Document("d1", "x"), Document("d2", "y")]) for query in queries]
    pairs = [(item.query, document) for item in items for document in item.documents]
    message = r"^query q2, document d1: query too long: the prompt has \d+ tokens without a document"
    for planned in (True, False):
        scorer = Scorer(model.family, lambda pairs: cluster, RecordedProgress())
        with pytest.raises(RequestError, match=message) as caught:
            list(scorer.score(items, scorer.plan(lambda: pairs) if planned else Plan(bytes(len(pairs)))))
        assert caught.value.hint.startswith("shorten the query")
        assert scorer.counts.pairs == (0 if planned else 4)  # the pairs of q0 and q1, whose texts are equal
    for worker in prepared.workers:
        ray.kill(worker, no_restart=True)
    scorer = Scorer(model.family, lambda pairs: cluster, RecordedProgress())
    with pytest.raises(RunError, match=r"^a worker of ray was lost and could not be replaced: "):
        scorer.score_query(Query("1", "figs"), [Document("1", "figs")])


@pytest.mark.weekly
def test_a_node_with_another_model_or_version_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, settings = on_ray(folder, workers=1)
    monkeypatch.setattr(engine, "file_digests", lambda model: {"model.safetensors": "of another node"})
    with pytest.raises(MissingError, match=rf"^node [\d.]+: {folder}: other files than on the machine"):
        prepare_engine("ray", model, settings)
    monkeypatch.setattr(engine, "__version__", "0.0.9")
    with pytest.raises(MissingError, match=r"^node [\d.]+: has lbr 0.1.0, and the job has lbr 0.0.9$"):
        prepare_engine("ray", model, settings)
    monkeypatch.undo()
    worker = engine.Worker(model, settings, engine.Deployment(engine.__version__, ""))
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "10.0.0.7")
    monkeypatch.setattr(type(folder), "exists", lambda self: False)
    with pytest.raises(MissingError, match=rf"^node 10.0.0.7: {folder}: not found$"):
        worker.spec()


def test_a_replacement_worker_has_to_compute_in_the_same_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "10.0.0.7")
    model, settings = on_ray(folder)
    expected = engine.Deployment(engine.__version__, engine.fingerprint(engine.file_digests(model)))
    worker = engine.Worker(model, settings, expected)
    with pytest.raises(RunError, match=r"^node 10.0.0.7: computes in another way"):
        worker.answer([], replace(worker.spec(), dtype="float16"))


def test_a_replacement_worker_may_have_a_prompt_with_a_date(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, settings = on_ray(folder)
    expected = engine.Deployment(engine.__version__, engine.fingerprint(engine.file_digests(model)))
    worker = engine.Worker(model, settings, expected)
    spec = worker.spec()
    monkeypatch.setattr(worker, "spec", lambda: replace(spec, dated=True))
    assert worker.answer([], spec).answers == []


def test_workers_are_counted_node_by_node() -> None:
    assert cluster.room_for({"CPU": 4.0}, Workers(1, cpus=6)) == 0
    assert cluster.room_for({"CPU": 5.0, "GPU": 1.0}, Workers(9, cpus=2, gpus=0.25)) == 2
    assert cluster.room_for({"CPU": 64.0, "GPU": 1.0}, Workers(9, cpus=2, gpus=0.25)) == 4
    assert cluster.room_for({"memory": 1e9}, Workers(1)) == 0


def test_a_signal_inside_ray_is_not_a_system_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(BaseException):
        pass

    def get(references: object, timeout: float | None) -> None:
        raise SystemError("<function> returned a result with an exception set") from Stopped()  # as CPython does

    monkeypatch.setattr(ray, "get", get)
    worker = SimpleNamespace(description=SimpleNamespace(remote=lambda: None))
    with pytest.raises(Stopped):
        engine.Prepared([worker], ComputeSpec("cpu", "float32", 9, "")).load()


@pytest.mark.slow
def test_a_signal_ends_the_job_and_keeps_its_scores(folder: Path, tmp_path: Path) -> None:
    process = start_long_job(folder, tmp_path, "--engine", "ray", "--progress")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, (tmp_path / "out.jsonl").exists()) == (143, "", False), err
    assert re.search(r"^lbr: terminated: \d+ scores of this run are cached", err, re.MULTILINE)


@pytest.mark.weekly
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_ray_starts_ends_the_job(folder: Path, tmp_path: Path, number: int, code: int) -> None:
    """Ray itself would end the program with exit code 0."""
    script = (
        "import os, sys, threading\nfrom lbr_cli.commands import main\nimport ray\n"
        "real = ray.init\n"
        "def init(*a, **k):\n    os.kill(os.getpid(), %d)\n    return real(*a, **k)\n"
        "ray.init = init\nsys.argv = ['lbr', 'rerank', 'run.jsonl', '-m', %r, '--family', 'lb', '--engine', 'ray']\n"
        "main()"
    )
    (tmp_path / "run.jsonl").write_text(PAIRS)
    ended = subprocess.run(
        [sys.executable, "-c", script % (number, str(folder))],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "LBR_CACHE": "0"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (code, "")
    assert ended.stderr.splitlines()[-1].startswith(f"lbr: {'interrupted' if code == 130 else 'terminated'}")


@pytest.mark.weekly
def test_bi_encoders_score_like_the_local_engine(minilm: Path) -> None:
    model = fetch(resolve("minilm"), RecordedProgress())
    assert isinstance(model.family, BiEncoder)
    _, settings = on_ray_of(model)
    documents = [Document(str(index), f"figs number {index % 5}") for index in range(12)]
    queries = [Query(text, text) for text in QUERIES]
    found = [values(scored(model, name, settings, queries, documents, RecordedProgress())) for name in ("local", "ray")]
    assert_agreement(found[1], found[0], 1e-6)


def on_ray_of(model: Any) -> tuple[Any, Any]:
    from lbr_cli.engines import Settings

    return model, Settings("cpu", "float32", workers=Workers(2))


@pytest.mark.slow
def test_the_command_line_equals_the_local_engine(folder: Path, lbr: Program) -> None:
    options = ("rerank", "--model", str(folder), "--family", "lb", "--dtype", "float32", "--device", "cpu")
    found = lbr(*options, "--engine", "ray", "--workers", "2", stdin=PAIRS.encode())
    local = lbr(*options, stdin=PAIRS.encode())
    assert (found.code, local.code) == (0, 0)
    assert [record["doc_id"] for record in found.records] == [record["doc_id"] for record in local.records]
    for one, other in zip(found.records, local.records, strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=1e-6)
    assert found.err.splitlines()[-1].endswith("with tiny (ray, 2 workers: cpu, float32)")
    assert all(line.startswith("lbr: ") for line in found.err.splitlines())


@pytest.mark.slow
def test_unavailable_clusters_and_resources_are_errors(folder: Path, lbr: Program) -> None:
    options = ("rerank", "--model", str(folder), "--family", "lb", "--engine", "ray")
    ended = lbr(*options, "--ray-address", "127.0.0.1:1", stdin=PAIRS.encode())
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("lbr: --ray-address 127.0.0.1:1: cannot be reached: ")
    ended = lbr(*options, "--workers", "999", stdin=PAIRS.encode())
    assert (ended.code, ended.out) == (2, "")
    assert re.match(r"lbr: the cluster has room for \d+ workers of 1 CPUs, and --workers is 999\n", ended.err)
    ended = lbr(*options, "--device", "cuda", stdin=PAIRS.encode())
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "lbr: --device cuda needs --worker-gpus\n"
