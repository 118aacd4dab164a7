"""The engines vllm and openai against vLLM itself: `pytest -m vllm -n 0`, in an environment that has it and lbr."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lbr_cli.core import Query
from lbr_cli.engines import prepare_engine
from lbr_cli.scoring import Scorer
from support.agreement import (
    DOCUMENTS,
    FAMILIES,
    QUERIES,
    TOLERANCE,
    Reference,
    assert_agreement,
    checkpoint,
    scores,
    server_setup,
    values,
)
from support.paths import ROOT
from support.program import Program
from support.progress import RecordedProgress
from support.serving import Serving

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(
        importlib.util.find_spec("vllm") is None, reason="vLLM is not here: pip install 'lbr-cli[vllm]'"
    ),
]
SPACE = {"VLLM_CPU_KVCACHE_SPACE": "1"}
START = 300  # seconds until the server responds


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("models") / "tiny")


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_vllm_in_process_agrees(folder: Path, name: str, dtype: str) -> None:
    """Each in a process of its own, as vLLM takes one model a process."""
    code = "import json, sys; from support.agreement import vllm_scores; print(json.dumps(vllm_scores(*sys.argv[1:])))"
    ended = subprocess.run(
        [sys.executable, "-c", code, str(folder), name, dtype],
        env=os.environ | SPACE | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    scale = 1 if dtype == "float32" or name.startswith("lb") else 5  # log-odds go from about -10 to 10
    assert_agreement(
        json.loads(ended.stdout.splitlines()[-1]), Reference(folder).scores(name), scale * TOLERANCE[dtype]
    )


def test_only_results_are_on_stdout(folder: Path, lbr: Program) -> None:
    stdin = json.dumps({"query_id": "1", "query": "figs", "documents": ["figs", "salt"]}).encode()
    ended = lbr("rerank", "-m", str(folder), "--family", "lb", "--engine", "vllm", stdin=stdin, env=SPACE)
    assert ended.code == 0
    assert [record["rank"] for record in ended.records] == [1, 2]


@contextmanager
def vllm_serves(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [str(Path(sys.executable).with_name("vllm")), "serve", str(folder), "--served-model-name", "tiny"]
    options = ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--max-model-len", "600"]
    environment = os.environ | SPACE | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    server = subprocess.Popen(
        [*command, *options],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait(port)
        yield server
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _wait(port: int) -> None:
    for _ in range(START):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(1)
        else:
            return
    pytest.fail("vllm serve did not start")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def kill_after(process: subprocess.Popen[bytes], url: str, requests: int) -> None:
    """Kill a server, and its own processes, when it has answered so many more requests."""
    least = answered(url) + requests
    while answered(url) < least:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)


def answered(url: str) -> float:
    """Return how many requests a server of vLLM has answered, from its metrics."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("vllm:request_success_total"))


def test_a_vllm_server_agrees_before_and_after_a_restart(folder: Path, lbr: Program, tmp_path: Path) -> None:
    port = free_port()
    server = Serving(f"http://127.0.0.1:{port}/v1")
    documents = [f"salt and figs number {number} " * (1 + number % 40) for number in range(300)]
    stdin = json.dumps({"query_id": "1", "query": "figs", "documents": documents}).encode()
    options = ("rerank", "--engine", "openai", "--base-url", server.url, "-m", "tiny", "--family", "lb")
    options += ("--tokenizer", str(folder), "--cache-dir", "cache", "-o", "out.jsonl", "--max-length", "500")
    environment = {"LBR_CACHE": "1"}
    with vllm_serves(folder, port) as process:
        for name in FAMILIES:
            model, engine, settings = server_setup(folder, server, name)
            assert_agreement(
                values(scores(model, engine, settings)), Reference(folder).scores(name), TOLERANCE["float32"]
            )
        model, engine, settings = server_setup(folder, server, "lb", tokenizer=False)
        scorer = Scorer(model.family, prepare_engine(engine, model, settings).load, RecordedProgress())
        plain = [text for text in QUERIES if "<|" not in text]
        found = [scorer.score_query(Query(text, text), DOCUMENTS[:3]) for text in plain]
        expected = [
            row[:3] for row, text in zip(Reference(folder).scores("lb", 20), QUERIES, strict=True) if "<|" not in text
        ]
        assert_agreement(values(found), expected, TOLERANCE["float32"])

        killer = threading.Thread(target=kill_after, args=(process, server.url.removesuffix("/v1"), 50), daemon=True)
        killer.start()
        broken = lbr(*options, "--concurrency", "1", stdin=stdin, env=environment)
        killer.join(60)
    assert (broken.code, (tmp_path / "out.jsonl").exists()) == (1, False)
    assert f"{server.url}: cannot be reached" in broken.err
    with vllm_serves(folder, port):
        whole = lbr(*options, stdin=stdin, env=environment)
    assert whole.code == 0
    assert "(0 cached" not in whole.err
    local = lbr("rerank", "-m", str(folder), "--family", "lb", "--dtype", "float32", "--max-length", "500", stdin=stdin)
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    remote = {record["doc_id"]: record["score"] for record in map(json.loads, lines)}
    assert remote == pytest.approx({record["doc_id"]: record["score"] for record in local.records}, abs=1e-3)
