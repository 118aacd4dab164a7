"""Unattended jobs: killed, interrupted and resumed, and their manifests."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lbr_cli import __version__
from support.files import DOCS, QUERIES, RUN, write
from support.paths import ROOT
from support.program import Program, Starter

LINES = [{"query": f"ripe figs {number}", "documents": ["Ripe figs turn purple.", "Bread."]} for number in range(3)]


def line(number: int) -> bytes:
    return json.dumps(LINES[number] | {"query_id": f"q{number}"}).encode() + b"\n"


def started(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LBR_")}
    return subprocess.Popen(
        [sys.executable, "-m", "lbr_cli", "rerank", *arguments],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT), "LBR_CACHE_DIR": str(folder / "cache")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # a background job of a script ignores SIGINT, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.fixture
def cached_start(lbr_start: Starter, tmp_path: Path) -> Starter:
    """Start `lbr rerank` with a score cache in the test's folder."""
    return partial(lbr_start, "rerank", env={"LBR_CACHE": "1", "LBR_CACHE_DIR": str(tmp_path / "cache")})


def answering(cached_start: Starter, model: Path, *more: str) -> Any:
    """Start a job, and return it when it has answered its first query, of two pairs, and waits for the next."""
    job = cached_start("-", "--stream", "-m", str(model), "--family", "lb", *more)
    assert job.stdin
    assert job.stdout
    job.stdin.write(line(0))
    job.stdin.flush()
    assert b'"query_id":"q0"' in job.stdout.readline()
    return job


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_job_prints_how_to_continue(
    number: signal.Signals, code: int, chat_model: Path, tmp_path: Path, cached_start: Starter
) -> None:
    job = answering(cached_start, chat_model, "--quiet")
    job.send_signal(number)
    _, err = job.communicate(timeout=30)
    assert job.returncode == code
    word = "interrupted" if code == 130 else "terminated"
    assert err.decode() == (f"lbr: {word}: 2 scores of this run are cached; the same command continues from there\n")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["scores.sqlite"]


def test_an_interrupted_job_without_a_cache_stores_no_scores(
    chat_model: Path, tmp_path: Path, cached_start: Starter
) -> None:
    job = answering(cached_start, chat_model, "--quiet", "--no-cache")
    job.send_signal(signal.SIGTERM)
    _, err = job.communicate(timeout=30)
    assert err.decode() == "lbr: terminated: no scores are cached\n"
    assert not (tmp_path / "cache").exists()


def test_a_killed_job_continues_from_the_cache(
    chat_model: Path, tmp_path: Path, lbr: Program, cached_start: Starter
) -> None:
    job = answering(cached_start, chat_model, "--dtype", "float32")
    job.kill()
    job.communicate()
    assert (tmp_path / "cache" / "scores.sqlite-wal").exists()
    write(tmp_path, {"all.jsonl": b"".join(line(number) for number in range(3))})
    ask = ("rerank", "all.jsonl", "-m", str(chat_model), "--family", "lb", "--dtype", "float32")
    plain = lbr(*ask, "--no-cache")
    again = lbr(*ask, "--cache", "--cache-dir", "cache")
    assert "6 pairs (2 cached, 0 truncated)" in again.err
    for one, other in zip(plain.records, again.records, strict=True):
        assert one.pop("score") == pytest.approx(other.pop("score"), abs=1e-6)
        assert one == other
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["scores.sqlite"]
    with sqlite3.connect(tmp_path / "cache" / "scores.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.slow
def test_four_concurrent_jobs_share_a_cache(
    chat_model: Path, tmp_path: Path, lbr: Program, cached_start: Starter
) -> None:
    write(tmp_path, {"all.jsonl": b"".join(line(number) for number in range(3))})
    ask = ("all.jsonl", "-m", str(chat_model), "--family", "lb", "--dtype", "float32", "--quiet")
    jobs = [cached_start(*ask) for _ in range(4)]
    ended = [job.communicate(timeout=600) for job in jobs]
    assert [job.returncode for job in jobs] == [0] * 4
    (err,) = {err for _, err in ended}
    assert err.startswith(b"lbr: warning: 6 of 6 pairs: the digits 1 to 7 have less than half")
    assert len(err.splitlines()) == 1
    # batches depend on which scores the other jobs have stored
    rankings = [[json.loads(line) for line in out.splitlines()] for out, _ in ended]
    for ranking in rankings[1:]:
        assert [(one["query_id"], one["doc_id"]) for one in ranking] == [
            (one["query_id"], one["doc_id"]) for one in rankings[0]
        ]
        assert [one["score"] for one in ranking] == pytest.approx([one["score"] for one in rankings[0]], abs=1e-5)
    warm = lbr("rerank", *ask[:-1], "--cache", "--cache-dir", "cache")
    assert "6 pairs (6 cached, 0 truncated)" in warm.err


def test_an_unusable_cache_is_only_a_warning(chat_model: Path, tmp_path: Path, lbr: Program) -> None:
    write(tmp_path, {"all.jsonl": line(0), "file": ""})
    ask = ("rerank", "all.jsonl", "-m", str(chat_model), "--family", "lb", "--quiet")
    plain = lbr(*ask)
    spoilt = lbr(*ask, "--cache", "--cache-dir", "file")
    assert (spoilt.code, spoilt.out) == (0, plain.out)
    assert spoilt.err == "lbr: warning: no score cache in this run: file is not a folder\n" + plain.err


def test_a_full_disk_keeps_the_old_ranking(chat_model: Path, tmp_path: Path) -> None:
    write(tmp_path, {"all.jsonl": line(0), "out.jsonl": "old"})
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "lbr_cli", "rerank", "all.jsonl", "-m", str(chat_model), "--family", "lb"]
    ended = subprocess.run(
        [*command, "--quiet", "--cache-dir", "cache", "-o", "out.jsonl"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[0].startswith("lbr: score cache cache/scores.sqlite: cannot be written: ")
    assert ended.stderr.splitlines()[1:] == [
        "lbr: hint: free some space, choose another folder with --cache-dir, or use --no-cache"
    ]
    assert (tmp_path / "out.jsonl").read_text() == "old"
    assert not (tmp_path / ".out.jsonl.lbr-tmp").exists()


@pytest.mark.slow
def test_a_missing_home_folder_is_a_warning(chat_model: Path, tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom lbr_cli.commands import main\n"
        "def no_home(*_, **__): raise RuntimeError('could not determine the home directory')\n"
        "import platformdirs\nplatformdirs.user_cache_path = no_home\n"
        f"sys.argv = ['lbr', 'rerank', '-m', {str(chat_model)!r}, '--family', 'lb', '--quiet']\nmain()"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LBR_")}
    ended = subprocess.run(
        [sys.executable, "-c", code], input=line(0), env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True
    )
    assert ended.returncode == 0
    assert ended.stderr.decode().splitlines()[0] == (
        "lbr: warning: no score cache in this run: there is no home folder; choose a folder with --cache-dir"
    )


@pytest.mark.slow
def test_further_signals_during_shutdown_are_ignored(files: Path) -> None:
    for number in range(6):
        job = started(files, "-", "-c", "docs.jsonl", "-q", "queries.tsv", "--engine", "overlap", "-o", "out.trec")
        while not (files / ".out.trec.lbr-tmp").exists():
            time.sleep(0.01)
        time.sleep(0.1)  # the file exists before its `with` block begins
        job.send_signal(signal.SIGTERM)
        while job.poll() is None:
            job.send_signal((signal.SIGINT, signal.SIGTERM)[number % 2])
            time.sleep(0.005)
        _, err = job.communicate()
        # of two signals at once Python handles SIGINT first
        assert (job.returncode, err) in ((143, b"lbr: terminated\n"), (130, b"lbr: interrupted\n"))
        assert not (files / ".out.trec.lbr-tmp").exists()


# ---------------------------------------------------------------- options


def test_a_query_that_is_not_utf_8_is_an_error(lbr: Program) -> None:
    ended = lbr("rerank", "-m", "minilm", "--query", os.fsdecode(b"caf\xff"), "--lines", stdin=b"a\n")
    assert (ended.code, ended.err) == (2, "lbr: --query: not UTF-8\n")


@pytest.mark.parametrize("option", [["--cache"], ["--cache-dir", "x"], ["--cache-size", "1GB"]])
def test_cache_options_are_refused_by_an_engine_without_a_cache(option: list[str], files: Path, lbr: Program) -> None:
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", *option)
    assert (ended.code, ended.err) == (2, f"lbr: {option[0]} has no effect: --engine overlap caches no scores\n")
    assert lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", "--no-cache").code == 0


def test_no_cache_and_cache_dir_exclude_each_other(files: Path, lbr: Program) -> None:
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--no-cache", "--cache-dir", "x")
    assert (ended.code, ended.err) == (2, "lbr: --cache-dir has no effect: no scores are cached\n")


def test_an_invalid_cache_size_is_an_error(files: Path, lbr: Program) -> None:
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "-m", "minilm", "--cache", "--cache-size", "big")
    assert ended.code == 2
    assert (
        ended.err == "lbr: --cache-size big: invalid size\nlbr: hint: use a number and a unit, such as 500MB or 2GB\n"
    )


# ---------------------------------------------------------------- lbr cache


def cached(model: Path, lbr: Program) -> None:
    lines = line(0).replace(b"q0", b"q")
    lbr("rerank", "-m", str(model), "--family", "lb", "--cache", "--cache-dir", "c", stdin=lines)


def test_cache_info_and_clear(chat_model: Path, tmp_path: Path, lbr: Program) -> None:
    assert lbr("cache", "info", "--cache-dir", "c").out == "c/scores.sqlite: does not exist yet\n"
    assert lbr("cache", "clear", "--cache-dir", "c").out == "0 entries removed from c/scores.sqlite\n"
    assert not (tmp_path / "c").exists()
    cached(chat_model, lbr)
    shown = lbr("cache", "info", "--cache-dir", "c", env={"LBR_CACHE_SIZE": "1GB"}).out.splitlines()
    assert shown[0].startswith("c/scores.sqlite: ")
    assert shown[0].endswith(" of 1 GB")
    assert shown[1] == "   entries     bytes  last used   model"
    entries, *_, name = shown[2].split()
    assert (name, entries) == (str(chat_model), "2")
    ended = lbr("cache", "clear", "-m", "minilm", "--cache-dir", "c")
    assert ended.code == 2
    assert ended.err == "lbr: --model minilm: no cached scores\nlbr: hint: lbr cache info lists the models\n"
    assert lbr("cache", "clear", "-m", str(chat_model), "--cache-dir", "c").out.startswith("2 entries removed")
    assert len(lbr("cache", "info", "--cache-dir", "c").out.splitlines()) == 2
    assert lbr("cache", "clear", env={"LBR_CACHE_DIR": "c"}).out.endswith(" entries removed from c/scores.sqlite\n")
    assert len(lbr("cache", "info", "--cache-dir", "c").out.splitlines()) == 2


def test_cache_prune_removes_scores_by_age(chat_model: Path, tmp_path: Path, lbr: Program) -> None:
    cached(chat_model, lbr)
    with sqlite3.connect(tmp_path / "c" / "scores.sqlite") as connection:
        ((before,),) = connection.execute("SELECT count(*) FROM scores")
        connection.execute(
            "UPDATE scores SET day = day - 31 WHERE model = (SELECT id FROM models WHERE name LIKE '/%')"
        )
    for age, removed in (("31d", 0), ("5w", 0), ("30d", 2), ("0", 0)):
        ended = lbr("cache", "prune", "--older-than", age, "--cache-dir", "c")
        assert (ended.code, ended.out) == (0, f"{removed} entries removed from c/scores.sqlite\n")
    with sqlite3.connect(tmp_path / "c" / "scores.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM scores").fetchall() == [(before - 2,)]
    ended = lbr("cache", "prune", "--older-than", "soon", "--cache-dir", "c")
    assert (ended.code, ended.err) == (
        2,
        "lbr: --older-than soon: invalid time\nlbr: hint: a number of days or weeks: 30d, 8w\n",
    )


def test_cache_commands_do_not_change_other_files(tmp_path: Path, lbr: Program) -> None:
    (tmp_path / "c").mkdir()
    write(tmp_path / "c", {"scores.sqlite": "my own scores, for years\n" * 100})
    for command in (["info"], ["clear"], ["prune", "--older-than", "1d"]):
        ended = lbr("cache", *command, "--cache-dir", "c")
        assert (ended.code, ended.out) == (1, "")
        assert ended.err == (
            "lbr: c/scores.sqlite: file is not a database\nlbr: hint: delete the file; a new one will be created\n"
        )
    assert (tmp_path / "c" / "scores.sqlite").read_text() == "my own scores, for years\n" * 100


# ---------------------------------------------------------------- the manifest


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def manifest(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "m.json").read_bytes())
    assert isinstance(found, dict)
    return found


def test_a_manifest_has_inputs_model_options_and_counts(chat_model: Path, tmp_path: Path, lbr: Program) -> None:
    folder = write(
        tmp_path, {"run.trec": RUN, "queries.tsv": QUERIES, "docs.jsonl.gz": gzip.compress(DOCS.encode()), "m.json": ""}
    )
    ask = ("rerank", "run.trec", "-c", "docs.jsonl.gz", "-m", str(chat_model), "--family", "lb", "--dtype", "float32")
    ended = lbr(*ask, "-o", "out.trec.gz", "--manifest", "m.json", "--cache", "--cache-dir", "c", "--max-length", "900")
    assert ended.code == 0
    record = manifest(folder)
    assert record["lbr"] == __version__
    assert list(record["versions"]) == ["python", "torch", "transformers", "tokenizers"]
    assert record["inputs"] == [
        {"file": name, "sha256": sha256((folder / name).read_bytes())}
        for name in ("run.trec", "queries.tsv", "docs.jsonl.gz")
    ]
    assert record["output"] == {"file": "out.trec.gz", "sha256": sha256((folder / "out.trec.gz").read_bytes())}
    assert record["model"]["name"] == str(chat_model)
    assert record["model"]["weights"] == {"model.safetensors": sha256((chat_model / "model.safetensors").read_bytes())}
    assert record["model"]["family"] == "Lb()"
    assert (record["terms"]["device"], record["terms"]["dtype"], record["terms"]["max_length"]) == (
        "cpu",
        "float32",
        900,
    )
    assert record["options"]["max_length"] == 900
    counts = record["counts"]
    assert (counts["queries"], counts["pairs"], counts["cached"], counts["truncated"]) == (2, 3, 0, 0)
    assert counts["tokens"] > 0
    again = lbr(*ask, "--manifest", "m.json", "--cache", "--cache-dir", "c", "--max-length", "900")
    counts = manifest(folder)["counts"]
    assert (counts["cached"], counts["cached_share"], counts["tokens"]) == (3, 1.0, 0)
    assert manifest(folder)["output"] == {"file": "standard output", "sha256": sha256(again.out.encode())}
    assert manifest(folder)["model"] == record["model"]
    assert manifest(folder)["terms"] == record["terms"]


def test_a_manifest_has_the_same_model_without_a_cache(chat_model: Path, tmp_path: Path, lbr: Program) -> None:
    ask = ("rerank", "-m", str(chat_model), "--family", "lb", "--manifest", "m.json")
    found = []
    for more in ([], ["--cache", "--cache-dir", "c"]):
        assert lbr(*ask, *more, stdin=line(0)).code == 0
        found.append(manifest(tmp_path))
    assert [(record["model"], record["terms"]) for record in found[:1]] == [(found[1]["model"], found[1]["terms"])]
    assert found[0]["inputs"] == [{"file": "-", "sha256": sha256(line(0))}]


@pytest.mark.parametrize("end", [b"", b"\n\n\n", b"\n" * 300_000])
def test_checksums_of_a_manifest_cover_every_byte_of_the_inputs(end: bytes, files: Path, lbr: Program) -> None:
    runs = {"run.trec": RUN.encode() + end, "queries.tsv": QUERIES.encode() + end, "docs.jsonl": DOCS.encode() + end}
    write(files, dict(runs))
    ask = ("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", "--manifest", "m.json")
    assert lbr(*ask).code == 0
    record = manifest(files)
    assert record["inputs"] == [{"file": name, "sha256": sha256(data)} for name, data in runs.items()]
    assert record["model"] is None
    assert "terms" not in record


def test_file_names_that_are_not_utf_8(chat_model: Path, tmp_path: Path, lbr: Program) -> None:
    beside, run = (tmp_path / os.fsdecode(name) for name in (b"beside\xff", b"run\xff.jsonl"))
    beside.mkdir()
    shutil.copytree(chat_model, beside / "model")
    run.write_bytes(line(0))
    ask = ("rerank", str(run), "-m", "model", "--family", "lb", "--manifest", "../m.json")
    ended = lbr(*ask, "--cache", "--cache-dir", "../c", cwd=beside)
    assert ended.code == 0
    assert manifest(tmp_path)["inputs"][0]["file"].endswith("/run\ufffd.jsonl")
    assert manifest(tmp_path)["model"]["name"].endswith("/beside\ufffd/model")
    assert "/beside\ufffd/model" in lbr("cache", "info", "--cache-dir", "c").out
    cleared = lbr("cache", "clear", "-m", "model", "--cache-dir", "../c", cwd=beside)
    assert cleared.out.startswith("2 entries removed")
    ended = lbr("rerank", str(run), "-m", str(beside / "model"), "--family", "lb")
    assert ended.code == 2
    assert "weights cannot be read from a path that is not UTF-8" in ended.err


def test_a_manifest_of_lines_and_of_a_stream(tmp_path: Path, lbr: Program) -> None:
    for ask, data in (
        (["--query", "fig", "--lines"], b"a fig\nbread\n"),
        (["--stream"], b'{"query": "fig", "documents": ["a fig"]}\n\n\n'),
    ):
        assert lbr("rerank", "--engine", "overlap", *ask, "--manifest", "m.json", stdin=data).code == 0
        assert manifest(tmp_path)["inputs"] == [{"file": "-", "sha256": sha256(data)}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--manifest", "out.trec", "-o", "./out.trec"], "--manifest out.trec: the same file as --output ./out.trec"),
        (["--manifest", "-"], "--manifest -: the same file as standard output"),
        (["--manifest", "/dev/stdout"], "--manifest /dev/stdout: the same file as standard output"),
        (["--manifest", ""], "--manifest: empty file name"),
        (["--manifest", "./docs.jsonl"], "--manifest ./docs.jsonl: would overwrite the corpus docs.jsonl"),
        (["--manifest", "run.trec"], "--manifest run.trec: would overwrite the run run.trec"),
        (["--manifest", "queries.tsv"], "--manifest queries.tsv: would overwrite the queries file queries.tsv"),
        (["--manifest", "/proc/self/fd/1"], "--manifest /proc/self/fd/1: the same file as standard output"),
        (["--manifest", "-", "-o", "/dev/stdout"], "--manifest -: the same file as --output /dev/stdout"),
        (["--manifest", ".o.lbr-tmp", "-o", "o"], "--manifest .o.lbr-tmp: the same file as --output o"),
        (["--manifest", "m.json", "--dry-run"], "--manifest has no effect: --dry-run makes no ranking"),
    ],
)
def test_invalid_manifest_options_are_errors(options: list[str], message: str, files: Path, lbr: Program) -> None:
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", *options)
    assert (ended.code, ended.out, ended.err.splitlines()[-1]) == (2, "", f"lbr: {message}")
    assert (files / "queries.tsv").read_text() == QUERIES


@pytest.mark.parametrize("name", ["out.trec", "out.trec.gz"])
def test_a_full_disk_for_the_manifest_keeps_the_old_ranking(name: str, files: Path, lbr: Program) -> None:
    write(files, {name: "old"})
    ask = ("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", "-o", name)
    ended = lbr(*ask, "--manifest", "/dev/full", "--quiet")
    assert (ended.code, ended.err) == (1, "lbr: /dev/full: cannot be written: No space left on device\n")
    assert (files / name).read_text() == "old"
    assert not (files / f".{name}.lbr-tmp").exists()


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "out.trec.zst"])
def test_checksums_of_a_manifest_cover_every_byte_of_the_output(name: str, files: Path, lbr: Program) -> None:
    ask = ("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", "-o", name)
    ended = lbr(*ask, "--manifest", "m.json", "--top-k", "9" * 30)
    assert manifest(files)["options"]["top_k"] == "9" * 30
    written = (files / name).read_bytes() if name.endswith("zst") else ended.out.encode()
    assert manifest(files)["output"]["sha256"] == sha256(written)
    assert manifest(files)["counts"]["computed"] == 3


def test_a_manifest_is_checked_first_and_published_with_its_ranking(files: Path, lbr: Program) -> None:
    ask = ("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", "-o", "out.trec")
    ended = lbr(*ask, "--manifest", "nowhere/m.json")
    assert (ended.code, ended.err) == (2, "lbr: nowhere/m.json: cannot be written: No such file or directory\n")
    assert not (files / "out.trec").exists()
    write(files, {"docs.jsonl": DOCS + "{", "m.json": "old"})
    assert lbr(*ask, "--manifest", "m.json").code == 2
    assert (files / "m.json").read_text() == "old"
    assert not (files / ".m.json.lbr-tmp").exists()
