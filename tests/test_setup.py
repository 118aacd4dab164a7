"""The cache key of a score: a change of any of its parts is a cache miss, and no other change is."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from lbr_cli import engines, identity, setup
from lbr_cli.cache import Cache
from lbr_cli.cache.location import CacheLocation
from lbr_cli.core import Document, Query
from lbr_cli.engines import Settings, local
from lbr_cli.errors import MissingError, RunError
from lbr_cli.families import BiEncoder, Lb, Template
from lbr_cli.identity import Memo
from lbr_cli.models import HubModel, LocalModel, fetch, resolve
from lbr_cli.models.digests import file_digests, fingerprint, has_code_elsewhere
from lbr_cli.scoring import QueryDocuments
from lbr_cli.setup import Preparation
from support import checkpoints
from support.files import write
from support.paths import ROOT
from support.program import Program
from support.progress import RecordedProgress
from support.tokenizers import CHAT_TEMPLATE, chat_tokenizer


@dataclass(frozen=True)
class Case:
    """A pair and everything that decides its score."""

    folder: Path
    family: str | None = None
    chosen: dict[str, Any] = field(default_factory=dict)
    settings: Settings = Settings("cpu", "float32")
    engine: str = "local"
    query: str = "ripe figs"
    text: str = "Figs turn purple."
    title: str = "Figs"


def known(case: Case, cache: Path) -> bool:
    """Score the pair, and return whether its score was cached."""
    listener = RecordedProgress()
    with Cache(CacheLocation(cache, 10**9), listener) as opened:
        model = resolve(str(case.folder), case.family, chosen=case.chosen)
        documents = [Document("d", case.text, case.title)]
        scored(model, case, opened, listener, documents)
    assert listener.warnings == []
    assert (listener.tokens == 0) == (listener.cached == 1)
    return listener.cached == 1


def scored(
    model: HubModel | LocalModel, case: Case, cache: Cache, progress: RecordedProgress, documents: list[Document]
) -> list[float]:
    query = Query("q", case.query)
    preparation = Preparation(fetch(model, progress), case.engine, case.settings, Memo(cache), progress)
    made = preparation.set_up(lambda: ((query, document) for document in documents))
    ((_, scores),) = made.scorer.score([QueryDocuments(query, documents)], made.plan)
    return [score.value for score in scores]


@pytest.fixture
def chat(chat_model: Path, tmp_path: Path) -> Case:
    return Case(shutil.copytree(chat_model, tmp_path / "chat"), "lb")


def rewritten(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change a file but neither its size nor its time."""
    before = path.stat()
    path.write_bytes(change(path.read_bytes()))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def last_byte(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


CHANGES: dict[str, Callable[[Case], Case]] = {
    "query": lambda case: replace(case, query="ripe fig"),
    "text": lambda case: replace(case, text="Figs turn purple!"),
    "title": lambda case: replace(case, title="fig"),
    "no title": lambda case: replace(case, title=""),
    "dtype": lambda case: replace(case, settings=Settings("cpu", "bfloat16")),
    "maximum length": lambda case: replace(case, settings=Settings("cpu", "float32", max_length=900)),
    "family": lambda case: replace(case, family="lb-rev"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_options_are_a_miss(change: Callable[[Case], Case], chat: Case, tmp_path: Path) -> None:
    assert [known(chat, tmp_path / "cache") for _ in range(2)] == [False, True]
    assert [known(change(chat), tmp_path / "cache") for _ in range(2)] == [False, True]
    assert known(chat, tmp_path / "cache")


def test_changed_weights_of_equal_size_and_time_are_a_miss(chat: Case, tmp_path: Path) -> None:
    assert [known(chat, tmp_path / "cache") for _ in range(2)] == [False, True]
    rewritten(chat.folder / "model.safetensors", last_byte)
    assert [known(chat, tmp_path / "cache") for _ in range(2)] == [False, True]


def test_a_changed_configuration_is_a_miss(chat: Case, tmp_path: Path) -> None:
    assert not known(chat, tmp_path / "cache")
    rewritten(
        chat.folder / "config.json", lambda data: data.replace(b'"rms_norm_eps": 1e-06', b'"rms_norm_eps": 2e-06')
    )
    assert not known(chat, tmp_path / "cache")


def test_a_changed_template_is_a_miss(chat: Case, tmp_path: Path) -> None:
    assert not known(chat, tmp_path / "cache")
    chat_tokenizer(template=CHAT_TEMPLATE.replace("assistant", "model")).save_pretrained(chat.folder)
    assert not known(chat, tmp_path / "cache")


def test_instructions_labels_and_prompts_are_part_of_the_key(tmp_path: Path) -> None:
    folder = checkpoints.causal(tmp_path / "model", "Qwen3")
    one, other = (Template.parse(f'text = "{word} {{query}} {{document}}"', "p.toml") for word in ("a", "b"))
    variants = [
        Case(folder, "qwen3"),
        Case(folder, "qwen3", {"instruction": "Find figs"}),
        Case(folder, "qwen3", {"instruction": "Find bread"}),
        Case(folder, "next-token", {"prompt": one, "labels": ("yes", "no")}),
        Case(folder, "next-token", {"prompt": one, "labels": ("no", "yes")}),
        Case(folder, "next-token", {"prompt": other, "labels": ("yes", "no")}),
    ]
    assert [known(variant, tmp_path / "cache") for variant in variants] == [False] * 6
    assert [known(variant, tmp_path / "cache") for variant in variants] == [True] * 6


def test_pooling_prompts_and_similarity_are_part_of_the_key(tmp_path: Path) -> None:
    folder = checkpoints.bi_encoder(
        tmp_path / "model",
        "Bert",
        checkpoints.bytes_tokenizer(framed=True, pad_token="<|endoftext|>"),
        {"kind": "Pooling", "word_embedding_dimension": 32, "pooling_mode": "mean"},
        {"kind": "Dense", "in_features": 32, "out_features": 8, "bias": True, "activation_function": "torch.nn.Tanh"},
    )
    variants = [
        Case(folder),
        Case(folder, chosen={"query_prompt": "query: "}),
        Case(folder, chosen={"document_prompt": "query: "}),
    ]
    assert [known(variant, tmp_path / "cache") for variant in variants] == [False] * 3
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"similarity_fn_name": "dot"}))
    assert [known(Case(folder), tmp_path / "cache") for _ in range(2)] == [False, True]
    (pooling,) = folder.glob("1_*/config.json")
    pooling.write_text(pooling.read_text().replace('"mean"', '"max"'))
    assert [known(Case(folder), tmp_path / "cache") for _ in range(2)] == [False, True]
    (dense,) = folder.glob("2_*/pytorch_model.bin")
    before = fingerprint(file_digests(resolve(str(folder))))
    rewritten(dense, last_byte)
    assert fingerprint(file_digests(resolve(str(folder)))) != before


def test_another_device_or_engine_is_a_miss(chat: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def elsewhere(model: Any, settings: Settings) -> Any:
        prepared = local.prepare(model, settings)
        return replace(prepared, spec=replace(prepared.spec, device="cuda"))

    assert not known(chat, tmp_path / "cache")
    monkeypatch.setattr(identity, "hardware_fingerprint", lambda: "another one")
    assert known(chat, tmp_path / "cache")
    monkeypatch.setattr(identity, "hardware_fingerprint", lambda: "one with a graphics card")
    monkeypatch.setattr(setup, "prepare_engine", lambda name, model, settings: elsewhere(model, settings))
    assert [known(chat, tmp_path / "cache") for _ in range(2)] == [False, True]
    monkeypatch.undo()
    assert known(chat, tmp_path / "cache")
    monkeypatch.setitem(engines.ENGINES, "other", engines.ENGINES["local"])
    monkeypatch.setitem(sys.modules, "lbr_cli.engines.other", local)
    assert not known(replace(chat, engine="other"), tmp_path / "cache")


def test_folder_and_batch_options_are_not_part_of_the_key(chat: Case, tmp_path: Path) -> None:
    assert not known(chat, tmp_path / "cache")
    moved = shutil.copytree(chat.folder, tmp_path / "elsewhere")
    (moved / "README.md").write_text("a model")
    assert known(replace(chat, folder=moved), tmp_path / "cache")
    for settings in (Settings("cpu", "float32", batch_tokens=100), Settings("cpu", "float32", threads=1)):
        assert known(replace(chat, settings=settings), tmp_path / "cache")


def test_a_loaded_engine_overrides_the_memo(chat: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(model: Any, settings: Settings) -> Any:
        prepared = local.prepare(model, settings)
        return replace(prepared, spec=replace(prepared.spec, device="cuda"))

    with monkeypatch.context() as patched:
        patched.setattr(setup, "prepare_engine", lambda name, model, settings: wrong(model, settings))
        assert not known(chat, tmp_path / "cache")
    # the memo has cuda; when a pair has to be computed, the loaded engine corrects it
    assert known(chat, tmp_path / "cache")
    assert not known(replace(chat, text="Bread"), tmp_path / "cache")
    assert known(replace(chat, text="Bread"), tmp_path / "cache")
    assert not known(chat, tmp_path / "cache")


def test_a_new_scoring_version_invalidates_the_memo(
    chat: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The choices of an older version, such as that of a tokenizer, may be wrong."""
    prepared: list[str] = []
    prepare = engines.prepare_engine

    def counted(name: str, model: Any, settings: Settings) -> Any:
        prepared.append(settings.tokenizer)
        return prepare(name, model, settings)

    monkeypatch.setattr(setup, "prepare_engine", counted)
    assert [known(chat, tmp_path / "cache") for _ in range(2)] == [False, True]
    monkeypatch.setattr(identity, "SCORING_VERSION", "next")
    assert not known(chat, tmp_path / "cache")
    assert prepared == ["", ""]


def test_a_score_that_is_damaged_after_the_lookup_is_recomputed(
    chat: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not known(chat, tmp_path / "cache")
    monkeypatch.setattr(Cache, "get", lambda self, keys: {})  # `contains` does not verify rows
    assert not known(chat, tmp_path / "cache")


def test_a_template_with_a_date_is_prepared_in_each_run(
    chat: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = "{{ strftime_now('%d %b %Y') }}" + CHAT_TEMPLATE
    chat_tokenizer(template=template).save_pretrained(chat.folder)
    prepared: list[str] = []
    prepare = engines.prepare_engine

    def counted(name: str, *rest: Any) -> Any:
        prepared.append(name)
        return prepare(name, *rest)

    monkeypatch.setattr(setup, "prepare_engine", counted)
    assert [known(chat, tmp_path / "cache") for _ in range(2)] == [False, True]
    assert len(prepared) == 2


def test_files_that_change_while_the_model_is_loaded_end_the_run(
    chat: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = local.PreparedLocal.load

    def meddled(self: Any, pairs: int) -> Any:
        engine = load(self, pairs)
        rewritten(chat.folder / "model.safetensors", last_byte)
        return engine

    monkeypatch.setattr(local.PreparedLocal, "load", meddled)
    with pytest.raises(RunError, match="its files have changed since this run began"):
        known(chat, tmp_path / "cache")
    monkeypatch.undo()
    assert [known(chat, tmp_path / "cache") for _ in range(2)] == [False, True]


def test_all_weights_that_may_be_loaded_have_digests(chat: Case, tmp_path: Path) -> None:
    folder = chat.folder
    write(folder, {"adapter_model.safetensors": b"1", "pytorch_model.bin": b"1", os.fsdecode(b"\xff.txt"): b"1"})
    (folder / "w").mkdir()
    (folder / "additional_chat_templates").mkdir()
    write(folder / "w", {"shard.safetensors": b"1", "other.safetensors": b"1"})
    write(folder / "additional_chat_templates", {"default.jinja": b"1"})
    write(folder, {"model.safetensors.index.json": json.dumps({"weight_map": {"a": "w/shard.safetensors", "b": "no"}})})
    model = LocalModel("m", "m", Lb(), folder)
    before = file_digests(model)
    for name in (
        *("adapter_model.safetensors", "pytorch_model.bin", "w/shard.safetensors"),
        *("additional_chat_templates/default.jinja", "model.safetensors.index.json"),
    ):
        assert name in before
    assert "w/other.safetensors" not in before
    assert fingerprint(before)
    write(folder, {"model.safetensors.index.json": b"[1]", "modules.json": b'[{"path": 1}, 2]'})
    assert "w/shard.safetensors" not in file_digests(model)


def test_modules_may_be_outside_the_folder(tmp_path: Path) -> None:
    write(tmp_path, {"config.json": b"{}"})
    inside, outside = tmp_path / "model", tmp_path / "1_Pooling"
    inside.mkdir()
    outside.mkdir()
    write(outside, {"config.json": b"{}"})
    write(inside, {"modules.json": json.dumps([{"path": ""}, {"path": str(outside)}]), "config.json": b"{}"})
    assert list(file_digests(LocalModel("m", "m", BiEncoder(), inside))) == [
        "../1_Pooling/config.json",
        "config.json",
        "modules.json",
    ]


def test_code_in_another_repository_disables_the_cache(tmp_path: Path) -> None:
    write(tmp_path, {"config.json": json.dumps({"auto_map": {"AutoModel": "other/repo--modeling.Model"}})})
    model = LocalModel("m", "m", BiEncoder(), tmp_path)
    assert not has_code_elsewhere(model)
    assert has_code_elsewhere(replace(model, trusted=True))
    write(tmp_path, {"config.json": json.dumps({"auto_map": {"AutoModel": "modeling.Model"}}), "modeling.py": b""})
    (tmp_path / "0_Transformer").mkdir()
    write(tmp_path / "0_Transformer", {"config.json": json.dumps({"auto_map": {"AutoModel": "a/b--c.D"}})})
    write(tmp_path, {"modules.json": json.dumps([{"path": "0_Transformer"}])})
    assert has_code_elsewhere(replace(model, trusted=True))
    (tmp_path / "modules.json").unlink()
    assert not has_code_elsewhere(replace(model, trusted=True))
    assert list(file_digests(replace(model, trusted=True))) == ["config.json", "modeling.py"]


def test_a_missing_file_is_an_error(chat: Case, tmp_path: Path) -> None:
    (chat.folder / "gone.json").symlink_to(tmp_path / "nowhere")
    assert not known(chat, tmp_path / "cache")  # loading does not read this file
    with (
        Cache(None, RecordedProgress()) as cache,
        pytest.raises(MissingError, match=r"gone\.json: cannot be read: No such file or directory"),
    ):
        Memo(cache).sha256(chat.folder / "gone.json")


def test_a_changed_gguf_file_has_another_digest(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF1")
    (tmp_path / "other.gguf").write_bytes(b"GGUF2")
    model = resolve(str(tmp_path / "m.gguf"), "lb")
    before = file_digests(model)
    assert list(before) == ["m.gguf"]
    (tmp_path / "m.gguf").write_bytes(b"GGUF3")
    assert file_digests(model) != before


def scores(case: Case, cache: Path | None, texts: list[str]) -> tuple[list[float], RecordedProgress]:
    listener = RecordedProgress()
    with Cache(CacheLocation(cache, 10**9) if cache else None, listener) as opened:
        model = resolve(str(case.folder), case.family)
        return scored(model, case, opened, listener, [Document(text, text) for text in texts]), listener


@pytest.mark.slow
def test_a_changed_byte_at_200_positions_changes_no_score(chat: Case, tmp_path: Path) -> None:
    source = random.Random(0)
    texts = [" ".join(source.choices(["ripe", "figs", "turn", "purple", "bread", "salt"], k=9)) for _ in range(60)]
    plain, _ = scores(chat, None, texts)
    scores(chat, tmp_path / "whole", texts)
    file = tmp_path / "cache" / "scores.sqlite"
    file.parent.mkdir()
    warned = known = 0
    for _ in range(200):
        data = bytearray((tmp_path / "whole" / "scores.sqlite").read_bytes())
        data[source.randrange(len(data))] ^= source.randrange(1, 256)
        file.write_bytes(data)
        found, listener = scores(chat, file.parent, texts)
        assert found == pytest.approx(plain, abs=1e-6)
        assert len(listener.warnings) <= 1
        warned += len(listener.warnings)
        known += listener.cached
        for path in file.parent.iterdir():
            path.unlink()
    assert 0 < warned < 100
    assert known > 100 * len(texts)


def test_a_fully_cached_run_imports_neither_torch_nor_transformers(chat: Case, tmp_path: Path) -> None:
    lines = "".join(
        json.dumps({"query_id": "q", "query": "figs", "doc_id": str(i), "text": "fig " * i}) + "\n" for i in range(9)
    )
    write(tmp_path, {"run.jsonl": lines})
    code = (
        "import sys\nfrom lbr_cli.commands import main\n"
        f"sys.argv = ['lbr', 'rerank', 'run.jsonl', '-m', {str(chat.folder)!r}, '--family', 'lb']\n"
        "try:\n    main()\nfinally:\n"
        "    print([name for name in ('torch', 'transformers') if name in sys.modules], file=sys.stderr)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "LBR_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", code]
    ended = [
        subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert ended[0].stdout == ended[1].stdout
    assert [one.stderr.splitlines()[-1] for one in ended] == ["['torch', 'transformers']", "[]"]
    assert "9 pairs (9 cached, 0 truncated)" in ended[1].stderr
    assert f"with {chat.folder.name} (nothing computed)" in ended[1].stderr


def test_a_second_run_of_the_samples_is_fully_cached(minilm: Path, tmp_path: Path, lbr: Program) -> None:
    samples = ROOT / "samples"
    ask = ("rerank", str(samples / "run.trec"), "-c", str(samples / "docs.jsonl"), "-m", "minilm", "--cache")
    ended = [lbr(*ask, "--cache-dir", "cache", *more) for more in ([], ["--manifest", "m.json"])]
    assert ended[0].out == ended[1].out
    assert "213 pairs (0 cached" in ended[0].err
    assert "213 pairs (213 cached" in ended[1].err
    counts = json.loads((tmp_path / "m.json").read_text())["counts"]
    assert (counts["cached_share"], counts["tokens"]) == (1.0, 0)
