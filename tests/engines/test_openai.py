"""The engine openai against a fake server: its requests, the answers that it accepts, retries and errors."""

from __future__ import annotations

import json
import math
import random
import re
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from lbr_cli.cache import Cache
from lbr_cli.cache.location import CacheLocation
from lbr_cli.cache.scores import ScoreCache
from lbr_cli.core import Pair, Query
from lbr_cli.engines import Server, Settings, http_client, prepare_engine
from lbr_cli.engines.openai.answers import AmbiguousLabel, Token, label_logprobs, parse_logprobs, top_k
from lbr_cli.engines.response_errors import BadResponse
from lbr_cli.engines.server_url import api_key, checked_url
from lbr_cli.engines.token_prompts import TokenPrompts
from lbr_cli.errors import InputError, LbrError, MissingError, RequestError, RunError, UsageError
from lbr_cli.scoring import QueryDocuments, Scorer
from support import serving
from support.agreement import (
    DOCUMENTS,
    LENGTH,
    PAIRS,
    QUERIES,
    Reference,
    assert_agreement,
    checkpoint,
    local_setup,
    scores,
    server_setup,
    values,
)
from support.program import Program
from support.progress import RecordedProgress
from support.serving import CHAT_ONLY, HOSTED, KEY, LLAMA, NO_LOGPROBS, TOP_5, VLLM, Behaviour, Serving


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the pauses before retries short."""
    monkeypatch.setattr(http_client, "PAUSE", 0.001)


def reranked(lbr: Program, server: Serving, *more: str, **env: str) -> Any:
    arguments = (
        "rerank",
        "--engine",
        "openai",
        "--base-url",
        server.url,
        "--model",
        "tiny",
        "--family",
        "lb",
        "--explain",
    )
    return lbr(*arguments, *more, stdin=PAIRS.encode(), env=env)


@pytest.mark.parametrize(
    ("behaviour", "tokenizer", "top", "how"),
    [
        (VLLM, True, None, "token ids, each label"),
        (LLAMA, True, 20, "token ids, top 20 tokens"),
        (Behaviour(labels=False, strict=True), True, 20, "token ids, top 20 tokens"),
        (VLLM, False, 20, "chat messages, top 20 tokens"),
        (LLAMA, False, 20, "chat messages, top 20 tokens"),
        (CHAT_ONLY, False, 20, "chat messages, top 20 tokens"),
        (HOSTED, False, 20, "chat messages, top 20 tokens"),
        (TOP_5, False, 5, "chat messages, top 5 tokens"),
        (Behaviour(takes_ids=False, caps=9), False, 9, "chat messages, top 9 tokens"),
    ],
)
def test_the_best_request_that_a_server_supports_is_chosen(
    folder: Path, behaviour: Behaviour, tokenizer: bool, top: int | None, how: str
) -> None:
    listening = RecordedProgress()
    with serving.serving(folder, behaviour) as server:
        model, name, settings = server_setup(folder, server, "lb", tokenizer=tokenizer)
        prepared = prepare_engine(name, model, settings)
        scorer = Scorer(model.family, prepared.load, listening)
        # messages are not truncated
        documents = DOCUMENTS if tokenizer else DOCUMENTS[:3]
        found = [scorer.score_query(Query(text, text), documents) for text in QUERIES if tokenizer or "<|" not in text]
    assert scorer.description == f"{server.url}: {how}"
    assert len(prepared.warnings) == (top is not None and top < 20)
    expected = Reference(folder).scores("lb", top)
    if not tokenizer:
        expected = [row[:3] for row, text in zip(expected, QUERIES, strict=True) if "<|" not in text]
    assert_agreement(values(found), expected, 1e-6)
    for score in found[0]:
        assert score.details["mass"] == pytest.approx(sum(score.details["digits"]), abs=1e-9)


def test_token_ids_equal_those_of_the_local_engine(folder: Path) -> None:
    with serving.serving(folder) as server:
        model, name, settings = server_setup(folder, server, "lb")
        scores(model, name, settings)
    local, _, local_settings = local_setup(folder, "lb")
    ids = TokenPrompts(local, local_settings, "local")
    sent = set(server.prompts[1:])  # without the first, the probe
    requests = [local.family.requests(query, document)[0] for query in QUERIES for document in DOCUMENTS]
    assert sent == {tuple(ids.prompt(request).ids) for request in requests}
    assert max(map(len, sent)) == LENGTH


def test_a_server_without_token_ids_receives_messages_with_a_warning(folder: Path) -> None:
    with serving.serving(folder, CHAT_ONLY) as server:
        model, name, settings = server_setup(folder, server, "lb")
        with pytest.raises(UsageError, match="--max-length has no effect"):
            prepare_engine(name, model, settings)
        (warning,) = prepare_engine(name, model, Settings(server=settings.server)).warnings
        assert warning == f"{server.url}: accepts no token ids: it receives chat messages, and nothing is truncated"
        qwen, *_ = server_setup(folder, server, "qwen3")
        with pytest.raises(MissingError, match="accepts no token ids, and the prompt of qwen3 is more than messages"):
            prepare_engine(name, qwen, Settings(server=settings.server))


def test_documents_are_truncated_to_the_limit_of_the_server(folder: Path) -> None:
    with serving.serving(folder, Behaviour(reads=350)) as server:
        model, name, _ = server_setup(folder, server, "lb")
        prepared = prepare_engine(name, model, Settings(server=Server(server.url)))
        assert prepared.spec is not None
        assert prepared.spec.max_length == 349
        scorer = Scorer(model.family, prepared.load, RecordedProgress())
        found = scorer.score_query(Query("1", "figs"), DOCUMENTS)
    assert [score.details["truncated"] for score in found] == [False] * 5 + [True]
    assert max(map(len, server.prompts)) == 349


def test_labels_are_matched_exactly() -> None:
    tokens = [
        Token(None, text, -float(rank))
        for rank, text in enumerate(["\uff17", " 7", "7 ", "\uff177", "7.0", "\u0667"], 1)
    ]
    assert label_logprobs(tokens, ("7",), None) == [-math.inf]
    assert label_logprobs([*tokens, Token(None, "7", -0.5)], ("7", " 7"), None) == [-0.5, -2.0]
    assert label_logprobs([Token(33, "x", -1.0), Token(34, "7", -2.0)], ("7",), [33]) == [-1.0]
    with pytest.raises(AmbiguousLabel):
        label_logprobs([Token(None, "7", -1.0), Token(None, "7", -2.0)], ("7",), None)
    assert label_logprobs([Token(None, "7", -1.0), Token(None, "7", -1.0)], ("7",), None) == [-1.0]


def test_a_sampled_token_outside_the_top_is_ignored() -> None:
    tokens = [Token(None, "6", -9.0), Token(None, "a", -0.1), Token(None, "b", -3.0)]
    assert [token.text for token in top_k(tokens, 2)] == ["a", "b"]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"choices": []},
        {"choices": [{}, {}]},
        {"choices": ["7"]},
        {"choices": [{"logprobs": None}]},
        {"choices": [{"logprobs": {"content": []}}]},
        {"choices": [{"logprobs": {"content": {}}}]},
        {"choices": [{"logprobs": {"content": [{"top_logprobs": [7]}]}}]},
        {"choices": [{"logprobs": {"content": [{"top_logprobs": [{"token": "7"}]}]}}]},
        {"choices": [{"logprobs": {"content": [{"top_logprobs": [{"token": 7, "logprob": -1}]}]}}]},
        {"choices": [{"logprobs": {"content": [{"top_logprobs": [{"token": "7", "logprob": True}]}]}}]},
        {"choices": [{"logprobs": {"content": [{"top_logprobs": [{"token": "7", "logprob": 0.7}]}]}}]},
        {"choices": [{"logprobs": {"top_logprobs": [{}]}}]},
        {"choices": [{"logprobs": {"top_logprobs": [{"7": math.nan}]}}]},
        {"choices": [{"logprobs": {"top_logprobs": [{"7": -0.1, "6": -0.2}]}}]},
    ],
)
def test_invalid_responses_are_refused(answer: Any) -> None:
    with pytest.raises(BadResponse):
        parse_logprobs(answer)


def test_a_label_without_a_log_probability_is_an_error(folder: Path) -> None:
    """A missing digit counts as 0, but log-odds need the values of both labels."""
    with serving.serving(folder, TOP_5) as server:
        model, name, settings = server_setup(folder, server, "next-token", tokenizer=False)
        with pytest.raises(
            UsageError, match=r"^query \S+, document \d: the server did not return a log-probability for every label"
        ):
            values(scores_of(model, name, settings))


def scores_of(model: Any, name: str, settings: Settings) -> Any:
    scorer = Scorer(model.family, prepare_engine(name, model, settings).load, RecordedProgress())
    return [scorer.score_query(Query(text.split()[0], text), DOCUMENTS[:3]) for text in QUERIES]


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", [pytest.param(VLLM, id="ids"), pytest.param(CHAT_ONLY, id="messages")])
def test_scores_are_correct_if_a_fifth_of_the_requests_fails(
    folder: Path, short_pauses: None, behaviour: Behaviour
) -> None:
    kinds = [
        "429",
        "500",
        "503",
        "408",
        "cut",
        "malformed",
        "short",
        "page",
        "list",
        "empty",
        "error",
        *serving.BAD_VALUES,
    ]
    kinds += ["other"] if behaviour is VLLM else []
    ended = {"right": 0, "failed": 0}
    expected = Reference(folder).scores("lb", None if behaviour is VLLM else 20)[0][:3]
    for seed in range(12):
        chance = random.Random(seed)

        def failure(number: int, chance: random.Random = chance) -> str:
            return chance.choice(kinds) if chance.random() < 0.2 else ""

        with serving.serving(folder, behaviour, failure) as server:
            model, name, settings = server_setup(folder, server, "lb", tokenizer=behaviour is VLLM)
            try:
                found = scores_of(model, name, settings)[0]
            except RunError:
                ended["failed"] += 1
            else:
                ended["right"] += 1
                assert [score.value for score in found] == pytest.approx(expected, abs=1e-6)
    assert ended["right"] >= 10


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("429", "429: failure,"),
        ("500", "500: failure,"),
        ("cut", "cannot be reached: "),
        ("short", "cannot be reached: "),
        ("malformed", "5 invalid responses: invalid JSON"),
        ("page", "5 invalid responses: invalid JSON"),
        ("error", "5 invalid responses: an error: overloaded"),
        ("other", "5 invalid responses: the server read"),
    ],
)
def test_permanent_failures_end_the_job(folder: Path, short_pauses: None, wrong: str, message: str) -> None:
    with serving.serving(folder, failure=lambda number: wrong if number > 2 else "") as server:
        model, name, settings = server_setup(folder, server, "lb")
        with pytest.raises(RunError) as error:
            scores(model, name, settings)
    assert str(error.value).startswith(f"{server.url}: {message}")


@pytest.mark.parametrize(
    ("wrong", "code", "message"),
    [
        ("null", 1, "{url}: 5 invalid responses: invalid log-probability"),
        ("positive", 1, "{url}: 5 invalid responses: invalid log-probability"),
        ("bare", 2, "the server returns no log-probabilities"),
    ],
)
def test_invalid_log_probabilities_name_their_pair(
    folder: Path, short_pauses: None, wrong: str, code: int, message: str
) -> None:
    with serving.serving(folder, failure=lambda number: wrong if number > 1 else "") as server:
        model, name, settings = server_setup(folder, server, "lb", concurrency=1)
        with pytest.raises(RequestError) as error:
            scores_of(model, name, settings)
    assert str(error.value) == f"query {QUERIES[0].split()[0]}, document 0: {message.format(url=server.url)}"
    assert error.value.exit_code == code


def test_redirects_are_not_followed(folder: Path, short_pauses: None) -> None:
    with serving.serving(folder, failure=lambda number: "307") as server:
        model, name, settings = server_setup(folder, server, "lb")
        with pytest.raises(MissingError, match=r"307: points to http://127\.0\.0\.1:9/v1/elsewhere$"):
            scores(model, name, settings)


def test_a_base_url_without_v1_is_an_error_with_a_hint(folder: Path, short_pauses: None) -> None:
    with serving.serving(folder, Behaviour(listed=None), lambda number: "404") as server:
        model, name, _ = server_setup(folder, server, "lb", tokenizer=False)
        url = server.url.removesuffix("/v1")
        with pytest.raises(MissingError, match="has no /chat/completions: 404") as error:
            prepare_engine(name, model, Settings(server=Server(url)))
    assert error.value.hint == "the URL of most servers ends in /v1"


def test_after_a_server_failure_a_job_continues_from_the_cache(
    folder: Path, short_pauses: None, tmp_path: Path
) -> None:
    listening = RecordedProgress()
    pairs = [(Query(text, text), document) for text in QUERIES for document in DOCUMENTS]

    def scored(server: Serving) -> list[Any]:
        model, name, settings = server_setup(folder, server, "lb", concurrency=3)
        with Cache(CacheLocation(tmp_path, 10**9), listening) as cache:
            kept = ScoreCache(cache, b"the same", "tiny")
            scorer = Scorer(model.family, prepare_engine(name, model, settings).load, listening, kept)
            items = [QueryDocuments(Query(text, text), DOCUMENTS) for text in QUERIES]
            return [found for _, found in scorer.score(items, scorer.plan(lambda: pairs))]

    with (
        serving.serving(folder, failure=lambda number: "503" if number > 10 else "") as server,
        pytest.raises(RunError),
    ):
        scored(server)
    done = len(server.prompts) - 1  # without the probe
    assert done == 9
    with serving.serving(folder) as again:
        found = scored(again)
    assert len(again.prompts) - 1 == len(pairs) - done
    assert_agreement(values(found), Reference(folder).scores("lb"), 1e-6)


def test_concurrent_requests_reach_the_limit_across_queries(folder: Path) -> None:
    def failure(number: int) -> str:
        until = time.monotonic() + 5
        while number > 1 and server.most_at_once < 9 and time.monotonic() < until:
            time.sleep(0.005)
        time.sleep(0.03)  # a request above the limit would arrive
        return ""

    with serving.serving(folder, failure=failure) as server:
        model, name, settings = server_setup(folder, server, "lb", concurrency=9)  # more than the documents of a query
        scores(model, name, settings)
    assert server.most_at_once == 9


# ------------------------------------------------------------------------------------------------------------ keys


@pytest.mark.parametrize(("behaviour", "tokenizer"), [(VLLM, True), (CHAT_ONLY, False)])
def test_the_key_is_sent_and_never_written(
    folder: Path, lbr: Program, tmp_path: Path, behaviour: Behaviour, tokenizer: bool
) -> None:
    with serving.serving(folder, behaviour, key=KEY) as server:
        tokens = ["--tokenizer", str(folder)] if tokenizer else []
        options = ["--manifest", "made.json", "--cache-dir", "cache", "--progress"]
        ended = reranked(lbr, server, *tokens, *options, LBR_API_KEY=KEY, OPENAI_LOG="debug", LBR_CACHE="1")
    assert ended.code == 0
    assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    assert KEY not in ended.out + ended.err
    assert all(line.startswith("lbr: ") for line in ended.err.splitlines())  # no library logs
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes()
    made = json.loads((tmp_path / "made.json").read_text())
    assert made["terms"]["weights"] == f"{server.url} tiny"
    assert made["versions"]["urllib3"]
    assert bool(made["model"]["fingerprint"]) == tokenizer


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["", "500", "429", "cut", "malformed"])
def test_errors_do_not_contain_the_key(folder: Path, lbr: Program, wrong: str) -> None:
    """The response of the server contains the key, and a traceback would contain it, too."""
    with serving.serving(folder, key="another" if not wrong else KEY, failure=lambda number: wrong) as server:
        ended = reranked(lbr, server, LBR_API_KEY=KEY)
    assert ended.code == (1 if wrong else 2)
    assert KEY not in ended.out + ended.err
    assert "Traceback" not in ended.err
    if not wrong:
        assert ended.err == (
            f"lbr: {server.url}: 401: Incorrect API key provided: Bearer …\n"
            "lbr: hint: the key is read from the environment variable LBR_API_KEY\n"
        )


def test_openai_variables_apply_only_to_openai(folder: Path, lbr: Program, monkeypatch: Any) -> None:
    theirs = {"OPENAI_API_KEY": KEY, "OPENAI_ORG_ID": "org", "OPENAI_PROJECT_ID": "pro", "OPENAI_ADMIN_KEY": KEY}
    with serving.serving(folder) as server:
        assert reranked(lbr, server, **theirs, OPENAI_CUSTOM_HEADERS=f"X-Mine: {KEY}").code == 0
    sent = {(name.lower(), value) for headers in server.headers for name, value in headers.items()}
    assert not {name for name, value in sent if name in ("authorization", "openai-organization", "x-mine")}
    assert not {name for name, value in sent if KEY in value}
    monkeypatch.setenv("OPENAI_API_KEY", "for-openai")
    assert api_key("https://api.openai.com/v1") == "for-openai"
    assert api_key("https://api.openai.com.example.org/v1") == ""
    monkeypatch.setenv("LBR_API_KEY", "for-this")
    assert api_key("https://api.openai.com/v1") == api_key("http://localhost:8000/v1") == "for-this"


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel"])
def test_an_invalid_key_is_refused_without_printing_it(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("LBR_API_KEY", key)
    with pytest.raises(UsageError) as error:
        api_key("http://localhost:8000/v1")
    assert key not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "localhost:8000",
            "ftp://host/v1",
            "http://",
            "http://host:99999/v1",
            "http://ho st/v1",
            "http://höst/v1",
        ),
        *(f"http://user:{KEY}@host/v1", f"http://{KEY}@host/v1", f"http://host/v1?key={KEY}", f"http://host/v1#{KEY}"),
    ],
)
def test_a_base_url_with_other_parts_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="--base-url: ") as error:
        checked_url(url)
    assert KEY not in f"{error.value} {error.value.hint}"


# --------------------------------------------------------------------------------------------------- command line


def test_the_command_line_equals_the_local_engine(folder: Path, lbr: Program) -> None:
    with serving.serving(folder) as server:
        remote = reranked(lbr, server, "--tokenizer", str(folder))
    local = lbr(
        *("rerank", "--model", str(folder), "--family", "lb", "--explain", "--device", "cpu", "--dtype", "float32"),
        stdin=PAIRS.encode(),
    )
    assert (remote.code, local.code) == (0, 0)
    assert [record["doc_id"] for record in remote.records] == [record["doc_id"] for record in local.records]
    for one, other in zip(remote.records, local.records, strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)
        assert one["digits"] == pytest.approx(other["digits"], abs=1e-4)
        assert one["mass"] == pytest.approx(other["mass"], abs=1e-4)
    assert remote.err.endswith(f"with tiny ({server.url}: token ids, each label)\n")


def test_a_server_with_five_top_tokens_is_a_warning(folder: Path, lbr: Program) -> None:
    with serving.serving(folder, TOP_5) as server:
        ended = reranked(lbr, server, "--quiet")
    assert ended.code == 0
    assert ended.err.splitlines()[0] == (
        f"lbr: warning: {server.url}: returns only the top 5 tokens; a label that is not among them has probability 0"
    )


def test_a_second_run_sends_no_request(folder: Path, lbr: Program) -> None:
    with serving.serving(folder) as server:
        runs = [reranked(lbr, server, "--tokenizer", str(folder), "--cache-dir", "c", LBR_CACHE="1") for _ in range(2)]
        other = reranked(lbr, server, "--cache-dir", "c", LBR_CACHE="1")
    assert runs[0].out == runs[1].out
    assert "(7 cached, 0 truncated)" in runs[1].err
    assert "(0 cached, 0 truncated)" in other.err  # messages are other prompts than token ids
    assert server.request_count == 2 * (2 + 7)  # its models, a probe, and each pair


def test_a_changed_server_is_probed_again(folder: Path, lbr: Program) -> None:
    """The memo is used until a score has to be computed."""
    tokenizer = ("--tokenizer", str(folder), "--cache-dir", "c")
    more = PAIRS + '{"query_id": "3", "query": "bread", "documents": ["bread", "salt"]}\n'
    with serving.serving(folder) as server:
        port = int(server.url.split(":")[2].split("/")[0])
        reranked(lbr, server, *tokenizer, LBR_CACHE="1")
    arguments = ("--engine", "openai", "--base-url", server.url, "--model", "tiny", "--family", "lb", *tokenizer)
    with serving.serving(folder, Behaviour(reads=350), port=port) as server:
        ended = lbr("rerank", *arguments, stdin=more.encode(), env={"LBR_CACHE": "1"})
    assert ended.code == 0
    assert "9 pairs (0 cached, 0 truncated)" in ended.err
    assert len(server.prompts) == 1 + 9


def test_a_dry_run_sends_no_request(folder: Path, lbr: Program) -> None:
    arguments = ("rerank", "--engine", "openai", "--base-url", "http://127.0.0.1:1/v1", "--dry-run", "-m", "tiny")
    env = {"LBR_DEVICE": "cuda"}  # does not apply
    ended = lbr(*arguments, "--family", "lb", "--tokenizer", str(folder), stdin=PAIRS.encode(), env=env)
    assert ended.code == 0
    assert re.search(r"^tokens +\d+ in 7 texts: .*; 0 truncated at 1023$", ended.out, re.MULTILINE)
    ended = lbr(*arguments, "--family", "lb", stdin=PAIRS.encode(), env=env)
    assert "tokens      not counted: the server makes the prompts; add --tokenizer to count their tokens\n" in ended.out


def test_a_manifest_has_no_settings_of_other_engines(lbr: Program, tmp_path: Path) -> None:
    options = ("rerank", "--engine", "overlap", "--manifest", "made.json")
    assert lbr(*options, stdin=PAIRS.encode(), env={"LBR_BASE_URL": f"http://me:{KEY}@host/v1"}).code == 0
    assert KEY not in (tmp_path / "made.json").read_text()


def test_a_failure_of_the_server_is_a_run_error(folder: Path, short_pauses: None) -> None:
    with serving.serving(folder, failure=lambda number: "404" if number > 4 else "") as server:
        model, name, settings = server_setup(folder, server, "lb")
        with pytest.raises(RunError, match="404: failure,"):
            scores(model, name, settings)


def test_requests_go_through_the_proxy_of_the_environment(folder: Path, lbr: Program) -> None:
    with serving.serving(folder) as server:
        proxy = server.url.removesuffix("/v1").replace("http://", "http://user:s%40cret@")
        arguments = ("rerank", "--engine", "openai", "--base-url", "http://models.example/v1", "-m", "tiny")
        ended = lbr(*arguments, "--family", "lb", stdin=PAIRS.encode(), env={"HTTP_PROXY": proxy})
        direct = reranked(lbr, server, HTTP_PROXY="http://127.0.0.1:9", NO_PROXY="127.0.0.1")
    assert (ended.code, direct.code) == (0, 0)
    assert [record["score"] for record in ended.records] == [record["score"] for record in direct.records]
    half = len(server.headers) // 2
    proxied, unproxied = server.headers[:half], server.headers[half:]
    assert {headers.get("proxy-authorization") for headers in proxied} == {"Basic dXNlcjpzQGNyZXQ="}
    assert {headers["host"] for headers in proxied} == {"models.example"}
    assert {headers.get("proxy-authorization") for headers in unproxied} == {None}


def test_a_socks_proxy_needs_a_package(folder: Path, lbr: Program) -> None:
    arguments = ("rerank", "--engine", "openai", "--base-url", "http://models.example/v1", "-m", "tiny")
    ended = lbr(*arguments, "--family", "lb", stdin=PAIRS.encode(), env={"ALL_PROXY": "socks5://127.0.0.1:9"})
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "lbr: ALL_PROXY: a SOCKS proxy needs the package PySocks\nlbr: hint: pip install PySocks, or unset ALL_PROXY\n"
    )


def test_a_server_that_is_not_running_is_an_error(lbr: Program, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
    began = time.monotonic()
    ended = lbr("rerank", "--engine", "openai", "--base-url", url, "--family", "lb", stdin=PAIRS.encode())
    assert ended.code == 1
    assert ended.err.startswith(f"lbr: {url}: cannot be reached: ")
    assert ended.out == ""
    assert time.monotonic() - began < 20


def test_a_model_that_the_server_does_not_have_is_an_error(folder: Path, lbr: Program) -> None:
    with serving.serving(folder, Behaviour(listed=("one", "two"))) as server:
        ended = reranked(lbr, server)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == f"lbr: {server.url}: has no model tiny\nlbr: hint: --model is one of: one, two\n"


def test_an_alias_is_sent_as_the_hub_id_that_the_server_lists(folder: Path, lbr: Program) -> None:
    with serving.serving(folder, Behaviour(listed=("lightblue/lb-reranker-0.5B-v1.0",))) as server:
        ended = lbr("rerank", "--engine", "openai", "--base-url", server.url, stdin=PAIRS.encode())
    assert ended.code == 0
    assert {body["model"] for body in server.bodies} == {"lightblue/lb-reranker-0.5B-v1.0"}


def test_empty_lists_of_log_probabilities_are_an_error(folder: Path, short_pauses: None) -> None:
    with serving.serving(folder, CHAT_ONLY, lambda number: "bare") as server:
        model, name, settings = server_setup(folder, server, "lb", tokenizer=False)
        with pytest.raises(MissingError, match="returns no log-probabilities: the response has none"):
            prepare_engine(name, model, settings)


def test_a_server_without_log_probabilities_is_an_error(folder: Path, lbr: Program, monkeypatch: Any) -> None:
    with serving.serving(folder, NO_LOGPROBS) as server:
        ended = reranked(lbr, server)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == f"lbr: {server.url}: returns no log-probabilities: the response has none\n"


def test_a_text_that_exceeds_the_context_length_names_its_pair(folder: Path, lbr: Program) -> None:
    with serving.serving(folder, Behaviour(takes_ids=False, reads=500)) as server:
        ended = lbr(
            *("rerank", "--engine", "openai", "--base-url", server.url, "--model", "tiny", "--family", "lb"),
            stdin=json.dumps({"query_id": "q", "query": "figs", "documents": ["x", "word " * 300]}).encode(),
        )
    assert ended.code == 2
    assert "lbr: query q, document 1: the server refuses it: 400: This model's maximum context length" in ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "openai"], "--engine openai needs --base-url"),
        (["--base-url", "http://localhost/v1"], "--base-url has no effect: it is not for --engine local"),
        (["--engine", "vllm", "--threads", "2"], "--threads has no effect: it is not for --engine vllm"),
        (["--engine", "ray", "--concurrency", "2"], "--concurrency has no effect: it is not for --engine ray"),
        (["--engine", "openai", "--device", "cpu"], "--device has no effect: it is not for --engine openai"),
        (["--engine", "overlap", "--workers", "2"], "--workers has no effect: --engine overlap uses no model"),
        (
            ["--engine", "openai", "--base-url", "http://localhost/v1", "--max-length", "9"],
            "--max-length has no effect: without --tokenizer nothing is truncated",
        ),
        (
            ["--engine", "openai", "--base-url", "http://localhost/v1", "--model", "some/thing"],
            "--model some/thing: a server does not name the family of its models",
        ),
        (
            ["--engine", "openai", "--base-url", "http://localhost/v1", "--model", "bge-v2-gemma"],
            "--engine openai: unsupported family bge-gemma: it needs logits, not log-probabilities",
        ),
        (
            ["--engine", "openai", "--base-url", "http://localhost/v1", "--model", "bge-v2-m3"],
            "--engine openai: unsupported family classifier: it needs more than log-probabilities of tokens",
        ),
        (
            ["--engine", "openai", "--base-url", "http://localhost/v1", "--model", "qwen3-0.6b"],
            "--engine openai: the prompt of qwen3 is more than chat messages",
        ),
    ],
)
def test_invalid_options_are_errors(lbr: Program, arguments: list[str], message: str) -> None:
    ended = lbr("rerank", *arguments, stdin=PAIRS.encode())
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines()[0] == f"lbr: {message}"


def test_a_stream_is_answered_line_by_line(folder: Path, lbr: Program) -> None:
    with serving.serving(folder) as server:
        ended = reranked(lbr, server, "--stream", "--tokenizer", str(folder))
        whole = reranked(lbr, server, "--tokenizer", str(folder))
    assert ended.out == whole.out


def test_errors_can_be_pickled() -> None:
    import pickle

    errors: list[LbrError] = [
        RequestError("no room", Pair("q", "d"), hint="make some"),
        InputError("is bad", "file", 7, hint="mend it"),
        RunError("failed"),
    ]
    for error in errors:
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.hint, vars(again)) == (type(error), str(error), error.hint, vars(error))
