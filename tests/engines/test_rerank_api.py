"""The engine rerank-api against a fake server: request bodies, checks of responses, limits, retries and errors."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbr_cli.commands.options.engine import EngineOptions
from lbr_cli.core import Document, Query, Score
from lbr_cli.engines import DIALECTS, Server, Settings, http_client, prepare_engine
from lbr_cli.engines.rerank_api import dialects
from lbr_cli.engines.response_errors import BadResponse
from lbr_cli.engines.server_url import api_key
from lbr_cli.errors import ComputeError, LbrError, MissingError, RequestError, RunError, UsageError
from lbr_cli.models.served import served_reranker
from lbr_cli.scoring import QueryDocuments, Scorer
from support.program import Program, Result
from support.progress import RecordedProgress
from support.rerank_serving import (
    FAILURES,
    INVALID,
    TEI_INFO,
    Behaviour,
    Reranking,
    corrupted,
    reranking,
    response,
    score_of,
)

KEY = "sk-very-secret-0123456789"
QUERIES = ("ripe figs", "tram gauge")
TEXTS = ("Ripe figs turn purple.", "", "日本 bread", "salt\n", "Lisbon trams")
LINES = "".join(
    json.dumps({"query_id": str(number), "query": query, "documents": TEXTS}) + "\n"
    for number, query in enumerate(QUERIES, 1)
)
VLLM = ({"id": "tiny", "owned_by": "vllm"},)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the pauses before retries short."""
    monkeypatch.setattr(http_client, "PAUSE", 0.001)


def scorer_of(server: Reranking, dialect: str, *, name: str = "tiny", url: str = "", **more: Any) -> Scorer:
    settings = Settings(server=Server(url or server.url, dialect=dialect, **more))
    model = served_reranker(name)
    return Scorer(model.family, prepare_engine("rerank-api", model, settings).load, RecordedProgress())


def scores(scorer: Scorer, texts: Sequence[str] = TEXTS, queries: Sequence[str] = QUERIES) -> list[list[Score]]:
    documents = [Document(str(number), text) for number, text in enumerate(texts)]
    pairs = [(Query(query, query), document) for query in queries for document in documents]
    items = [QueryDocuments(Query(query, query), documents) for query in queries]
    return [found for _, found in scorer.score(items, scorer.plan(lambda: pairs))]


def values(found: Sequence[Sequence[Score]]) -> list[list[float]]:
    return [[score.value for score in row] for row in found]


def right(texts: Sequence[str] = TEXTS, queries: Sequence[str] = QUERIES) -> list[list[float]]:
    return [[score_of(query, text) for text in texts] for query in queries]


def activated(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return scores as the fake server returns them if they are not raw."""
    return [[round(0.5 + score / 16, 9) for score in row] for row in rows]


def reranked(lbr: Program, server: Reranking, dialect: str, *more: str, **env: str) -> Result:
    arguments = ("rerank", "--engine", "rerank-api", "--dialect", dialect, "--base-url", server.url)
    named = () if dialect == "tei" else ("--model", "tiny")
    return lbr(*arguments, *named, *more, stdin=LINES.encode(), env=env)


# --------------------------------------------------------------------------------------------------------- requests


@pytest.mark.parametrize(
    ("dialect", "path", "body"),
    [
        ("tei", "/rerank", {"texts": [*TEXTS], "raw_scores": True, "truncate": False, "return_text": False}),
        ("jina", "/v1/rerank", {"model": "tiny", "documents": [*TEXTS], "top_n": 5, "return_documents": False}),
        ("cohere", "/v2/rerank", {"model": "tiny", "documents": [*TEXTS], "top_n": 5}),
        (
            "voyage",
            "/v1/rerank",
            {"model": "tiny", "documents": [*TEXTS], "top_k": 5, "return_documents": False, "truncation": False},
        ),
    ],
)
def test_each_dialect_sends_its_own_body_and_reads_its_own_response(dialect: str, path: str, body: Any) -> None:
    with reranking(Behaviour(dialect)) as server:
        scorer = scorer_of(server, dialect, concurrency=1)
        found = values(scores(scorer))
    assert server.bodies == [{"query": query, **body} for query in QUERIES]
    assert [one for one in server.paths if one.endswith("/rerank")] == [path, path]
    assert found == (right() if dialect == "tei" else activated(right()))
    scale = "raw scores" if dialect == "tei" else "scores of the server"
    assert scorer.description == f"{server.url}: {dialect}, {scale}"
    assert scorer.counts.tokens == (0 if dialect == "tei" else 10)


@pytest.mark.parametrize("dialect", ["cohere", "voyage"])
def test_hosted_services_receive_the_pairs_and_nothing_else(dialect: str) -> None:
    with reranking(Behaviour(dialect)) as server:
        scores(scorer_of(server, dialect))
    assert server.paths == [f"{server.url.removeprefix(server.root)}/rerank"] * len(QUERIES)


@pytest.mark.parametrize(
    ("owner", "fields", "raw"),
    [
        ("vllm", {"use_activation": False}, True),
        ("infinity", {"raw_scores": True}, True),
        ("llamacpp", {}, True),
        ("somebody", {}, False),
    ],
)
def test_raw_scores_are_requested_by_the_field_of_the_server(owner: str, fields: Any, raw: bool) -> None:
    with reranking(Behaviour("jina", models=({"id": "other"}, {"id": "tiny", "owned_by": owner}))) as server:
        scorer = scorer_of(server, "jina")
        scores(scorer)
    standard = {"model", "query", "documents", "top_n", "return_documents"}
    assert [{name: body[name] for name in set(body) - standard} for body in server.bodies] == [fields, fields]
    assert scorer.description.endswith("jina, raw scores" if raw else "jina, scores of the server")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_base_url_without_a_path_gets_the_prefix_of_the_dialect(dialect: str) -> None:
    with reranking(Behaviour(dialect, models=VLLM)) as server:
        scores(scorer_of(server, dialect, url=server.root))
    assert server.paths[-1] == f"{server.url.removeprefix(server.root)}/rerank"


def test_a_jina_server_without_a_prefix_is_detected() -> None:
    with reranking(Behaviour("jina", models=({"id": "tiny", "owned_by": "infinity"},), root=True)) as server:
        scores(scorer_of(server, "jina"))
    assert server.paths == ["/v1/models", "/models", "/rerank", "/rerank"]


def test_an_alias_is_sent_as_the_hub_id_that_the_server_lists() -> None:
    with reranking(Behaviour("jina", models=({"id": "BAAI/bge-reranker-v2-m3", "owned_by": "vllm"},))) as server:
        scores(scorer_of(server, "jina", name="bge-v2-m3"))
    assert {body["model"] for body in server.bodies} == {"BAAI/bge-reranker-v2-m3"}


@pytest.mark.parametrize(
    ("behaviour", "names"),
    [(Behaviour("jina", models=VLLM), "tiny"), (Behaviour("tei", info=TEI_INFO), "tiny, some/model")],
)
def test_a_model_that_the_server_does_not_have_is_an_error(behaviour: Behaviour, names: str) -> None:
    with reranking(behaviour) as server, pytest.raises(MissingError, match=r"has no model another$") as error:
        scores(scorer_of(server, behaviour.dialect, name="another"))
    assert error.value.hint == f"--model is one of: {names}"
    assert server.bodies == []


# ----------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("dialect", "more", "sizes"),
    [
        ("tei", {}, [32, 32, 32, 4]),
        ("cohere", {}, [100]),
        ("voyage", {"documents_per_request": 40}, [40, 40, 20]),
        ("jina", {"documents_per_request": 1000}, [100]),
    ],
)
def test_documents_of_a_query_are_sent_in_batches(dialect: str, more: Any, sizes: list[int]) -> None:
    texts = [f"text {number}" for number in range(100)]
    with reranking(Behaviour(dialect)) as server:
        found = values(scores(scorer_of(server, dialect, concurrency=1, **more), texts, ["q"]))
    assert server.sizes == sizes
    assert found == (right(texts, ["q"]) if dialect == "tei" else activated(right(texts, ["q"])))


def test_the_limits_of_tei_are_read_from_its_info() -> None:
    info = {**TEI_INFO, "max_client_batch_size": 8, "max_concurrent_requests": 16}
    texts = [f"text {number}" for number in range(80)]
    with reranking(Behaviour("tei", most=8, info=info), wait=lambda: time.sleep(0.01)) as server:
        assert values(scores(scorer_of(server, "tei"), texts, ["q"])) == right(texts, ["q"])
    assert server.sizes == [8] * 10
    assert server.most_at_once <= 2


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_maximum_of_documents_is_found_once(dialect: str, status: int) -> None:
    texts = [f"text {number}" for number in range(64)]
    with reranking(Behaviour(dialect, most=9, too_many=status)) as server:
        found = values(scores(scorer_of(server, dialect, concurrency=1, documents_per_request=32), texts, ["q", "r"]))
    assert found == (right(texts, ["q", "r"]) if dialect == "tei" else activated(right(texts, ["q", "r"])))
    assert server.sizes == [32, 16, 8, 8, 16, 8, 8, *[8] * 12]


@pytest.mark.parametrize("dialect", ["tei", "jina", "voyage"])
def test_only_a_document_that_is_too_long_is_truncated(dialect: str) -> None:
    texts = [f"text {number}" for number in range(20)]
    texts[13] = "long " * 100
    models = VLLM if dialect == "jina" else None
    with reranking(Behaviour(dialect, longest=50, models=models)) as server:
        scorer = scorer_of(server, dialect)
        found = scores(scorer, texts, ["q"])
    texts[13] = texts[13][:50]
    raw = right(texts, ["q"])
    assert values(found) == (activated(raw) if dialect == "voyage" else raw)
    assert [score.details["truncated"] for score in found[0]] == [number == 13 for number in range(20)]
    assert scorer.counts.truncated == 1


@pytest.mark.parametrize("dialect", ["jina", "cohere"])
@pytest.mark.parametrize(
    "too_long",
    [
        (400, "a document has more than 50 tokens"),
        # llama.cpp (ggml-org/llama.cpp#11105)
        (500, "input (60 tokens) is too large to process. increase the physical batch size"),
    ],
)
def test_a_document_that_the_server_refuses_names_its_pair(dialect: str, too_long: tuple[int, str]) -> None:
    with reranking(Behaviour(dialect, longest=50, too_long=too_long)) as server:
        scorer = scorer_of(server, dialect)
        with pytest.raises(RequestError) as error:
            scores(scorer, ["a", "b", "long " * 20], ["q"])
    assert str(error.value) == f"query q, document 2: the server refuses it: {too_long[0]}: {too_long[1]}"
    assert error.value.exit_code == 2


def test_requests_of_several_queries_are_in_flight_at_once() -> None:
    def wait() -> None:
        until = time.monotonic() + 5
        while server.most_at_once < 6 and time.monotonic() < until:
            time.sleep(0.002)

    queries = [f"query {number}" for number in range(8)]
    with reranking(Behaviour("jina"), wait=wait) as server:
        scores(scorer_of(server, "jina", concurrency=6), TEXTS, queries)
    assert server.most_at_once == 6


# -------------------------------------------------------------------------------------------------------- responses


@given(st.sampled_from(DIALECTS), st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=40), st.randoms())
def test_scores_are_assigned_by_index(dialect: str, expected: list[float], chance: random.Random) -> None:
    form = dialects.DIALECTS[dialect]
    results = [{"index": index, form.score: score} for index, score in enumerate(expected)]
    chance.shuffle(results)
    assert form.scores({form.results: results} if form.results else results, len(expected)) == expected


@given(
    st.sampled_from(DIALECTS),
    st.lists(st.integers(-2, 5) | st.sampled_from([None, True, 1.0, "0"]), max_size=6),
)
def test_missing_and_duplicate_indexes_are_refused(dialect: str, indexes: list[Any]) -> None:
    form = dialects.DIALECTS[dialect]
    results = [{"index": index, form.score: 0.5} for index in indexes]
    answer = {form.results: results} if form.results else results
    valid = all(type(index) is int for index in indexes) and sorted(indexes) == [0, 1, 2, 3]
    if valid:
        assert form.scores(answer, 4) == [0.5] * 4
    else:
        with pytest.raises(BadResponse):
            form.scores(answer, 4)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("wrong", INVALID)
def test_an_invalid_response_is_refused(dialect: str, wrong: str) -> None:
    form = dialects.DIALECTS[dialect]
    for size in (1, 4):
        body = form.body("tiny", "q", TEXTS[:size])
        with pytest.raises(BadResponse):
            form.scores(corrupted(response(Behaviour(dialect), body), wrong), size)


@pytest.mark.parametrize("response", [None, 7, "text", [7], {"results": {}}, {"results": [7]}, {"data": None}, {}])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_response_without_results_is_refused(dialect: str, response: Any) -> None:
    with pytest.raises(BadResponse):
        dialects.DIALECTS[dialect].scores(response, 1)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_scores_are_correct_if_a_fifth_of_the_requests_fails(dialect: str) -> None:
    texts = [f"text {number}" for number in range(12)]
    queries = [f"query {number}" for number in range(6)]
    expected = right(texts, queries) if dialect == "tei" else activated(right(texts, queries))
    ended = {"right": 0, "failed": 0}
    for seed in range(5):
        chance = random.Random(seed)

        def failure(number: int, chance: random.Random = chance) -> str:
            return chance.choice(FAILURES) if chance.random() < 0.2 else ""

        with reranking(Behaviour(dialect), failure) as server:
            try:
                found = values(scores(scorer_of(server, dialect, documents_per_request=3), texts, queries))
            except RunError:
                ended["failed"] += 1
            else:
                ended["right"] += 1
                assert found == expected
    assert ended["right"] >= 4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("429", ": 429: failure"),
        ("500", ": 500: failure"),
        ("402", ": 402: failure"),
        ("cut", ": cannot be reached: "),
        ("page", ": 5 invalid responses: invalid JSON"),
        ("missing", ": 5 invalid responses: missing index "),
        ("duplicate", ": 5 invalid responses: duplicate index "),
        ("range", ": 5 invalid responses: invalid index, not one of 5 documents"),
        ("nan", ": 5 invalid responses: invalid JSON"),
        ("error", ": 5 invalid responses: an error: overloaded"),
    ],
)
def test_a_permanent_failure_ends_the_job(wrong: str, message: str) -> None:
    with reranking(Behaviour("cohere"), lambda number: wrong) as server, pytest.raises(RunError) as error:
        scores(scorer_of(server, "cohere"))
    assert str(error.value).startswith(f"{server.url}{message}")


@pytest.mark.parametrize("wrong", ["null", "large"])
def test_a_document_without_a_valid_score_is_named(wrong: str) -> None:
    """Servers write a score that is not a number as null (withcatai/node-llama-cpp#550)."""
    with reranking(Behaviour("tei"), lambda number: wrong) as server, pytest.raises(ComputeError) as error:
        scores(scorer_of(server, "tei", concurrency=1))
    document = right()[0].index(min(right()[0]))  # the last result of a response is corrupted
    problem = f"{server.url}: 5 invalid responses: invalid score"
    assert str(error.value) == f"query {QUERIES[0]}, document {document}: {problem}"
    assert error.value.exit_code == 1


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_wrong_path_is_a_usage_error_with_the_usual_path(dialect: str) -> None:
    with reranking(Behaviour(dialect)) as server, pytest.raises(LbrError) as error:
        scores(scorer_of(server, dialect, url=f"{server.root}/elsewhere"))
    assert error.value.exit_code == 2
    assert str(error.value) == f"{server.root}/elsewhere/rerank: 404: no such path: /elsewhere/rerank"
    usual = {"tei": "has no path", "jina": "ends in /v1", "cohere": "ends in /v2", "voyage": "ends in /v1"}[dialect]
    assert error.value.hint == f"the URL of most {dialect} servers {usual}"


# ----------------------------------------------------------------------------------------------------- command line


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_command_line(lbr: Program, dialect: str) -> None:
    with reranking(Behaviour(dialect)) as server:
        ended = reranked(lbr, server, dialect)
    assert ended.code == 0
    expected = right() if dialect == "tei" else activated(right())
    for number, row in enumerate(expected, 1):
        lines = [record for record in ended.records if record["query_id"] == str(number)]
        assert [line["doc_id"] for line in lines] == [
            str(index) for index in sorted(range(len(row)), key=lambda index: -row[index])
        ]
        assert [line["score"] for line in lines] == pytest.approx(sorted(row, reverse=True), rel=1e-6)


def test_a_failed_job_writes_no_output_and_the_next_one_continues(lbr: Program, tmp_path: Path) -> None:
    cached = ("--cache-dir", "cache", "-o", "out.jsonl", "--concurrency", "1")
    with reranking(Behaviour("cohere"), lambda number: "402" if number else "") as server:
        ended = reranked(lbr, server, "cohere", *cached, LBR_CACHE="1")
    assert ended.code == 1
    assert f"lbr: {server.url}: 402: failure" in ended.err
    assert not (tmp_path / "out.jsonl").exists()
    # another server has another port, and therefore other cache keys
    with reranking(Behaviour("cohere")) as other:
        assert "(0 cached" in reranked(lbr, other, "cohere", *cached, LBR_CACHE="1").err
        again = reranked(lbr, other, "cohere", *cached, LBR_CACHE="1")
    assert "(10 cached" in again.err
    assert len(other.bodies) == 2


def test_scores_of_another_commit_of_the_model_are_not_reused(lbr: Program) -> None:
    info = dict(TEI_INFO)
    with reranking(Behaviour("tei", info=info)) as server:
        cached = ("--cache-dir", "cache")
        reranked(lbr, server, "tei", *cached, LBR_CACHE="1")
        more = LINES + json.dumps({"query_id": "3", "query": "new", "documents": ["one"]}) + "\n"
        arguments = ("rerank", "--engine", "rerank-api", "--dialect", "tei", "--base-url", server.url, *cached)
        assert "(10 cached" in lbr(*arguments, stdin=more.encode(), env={"LBR_CACHE": "1"}).err
        info["model_sha"] = "def"
        more += json.dumps({"query_id": "4", "query": "new", "documents": ["two"]}) + "\n"
        assert "(0 cached" in lbr(*arguments, stdin=more.encode(), env={"LBR_CACHE": "1"}).err


def test_the_key_is_sent_and_never_printed(lbr: Program, tmp_path: Path) -> None:
    with reranking(Behaviour("voyage"), key=KEY) as server:
        ended = reranked(lbr, server, "voyage", "--manifest", "made.json", LBR_API_KEY=KEY, LBR_CACHE="1")
        refused = reranked(lbr, server, "voyage", LBR_API_KEY=f"{KEY}x")
    assert (ended.code, refused.code) == (0, 2)
    assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}", f"Bearer {KEY}x"}
    assert refused.err == (
        f"lbr: {server.url}: 401: invalid key Bearer …\n"
        "lbr: hint: the key is read from the environment variable LBR_API_KEY\n"
    )
    assert KEY not in ended.out + ended.err + refused.out + refused.err
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    made = json.loads((tmp_path / "made.json").read_text())
    assert made["versions"]["urllib3"]
    assert made["options"]["dialect"] == "voyage"


def test_the_key_of_a_hosted_service_is_sent_only_to_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JINA_API_KEY", "CO_API_KEY", "VOYAGE_API_KEY"):
        monkeypatch.setenv(name, name)
    monkeypatch.delenv("LBR_API_KEY", raising=False)
    assert api_key("https://api.jina.ai/v1") == "JINA_API_KEY"
    assert api_key("https://api.cohere.com/v2") == "CO_API_KEY"
    assert api_key("https://api.voyageai.com/v1") == "VOYAGE_API_KEY"
    assert api_key("http://api.jina.ai/v1") == api_key("https://api.jina.ai.example.org/v1") == ""
    monkeypatch.setenv("LBR_API_KEY", "for-this")
    assert api_key("https://api.cohere.com/v2") == "for-this"


def test_a_dry_run_sends_nothing(lbr: Program) -> None:
    with reranking(Behaviour("jina")) as server:
        ended = reranked(lbr, server, "jina", "--dry-run")
    assert ended.code == 0
    assert "tokens      not counted: the server tokenizes the texts\n" in ended.out
    assert server.paths == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dialect", "tei"], "--engine rerank-api needs --base-url"),
        (["--base-url", "http://localhost/v1"], "--engine rerank-api needs --dialect"),
        (["--base-url", "http://localhost", "--dialect", "cohere"], "--dialect cohere needs --model"),
        (["--base-url", "http://localhost", "--dialect", "tei", "--family", "lb"], "--family has no effect: a rerank"),
        (["--base-url", "http://localhost", "--dialect", "tei", "--show-prompt"], "--show-prompt has no effect: a"),
        (["--base-url", "http://localhost", "--dialect", "tei", "--max-length", "9"], "--max-length has no effect: it"),
        (["--base-url", "http://localhost", "--dialect", "tei", "--tokenizer", "lb"], "--tokenizer has no effect: it"),
        (["--base-url", "http://localhost", "--dialect", "solr"], "'solr' is not one of 'tei', 'jina', 'cohere'"),
        (["--engine", "overlap", "--dialect", "tei"], "--dialect has no effect: --engine overlap uses no model"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(lbr: Program, arguments: list[str], message: str) -> None:
    named = [] if "--engine" in arguments else ["--engine", "rerank-api"]
    ended = lbr("rerank", *named, *arguments, stdin=LINES.encode())
    assert (ended.code, ended.out) == (2, "")
    assert message in " ".join(ended.err.split())


@pytest.mark.parametrize("engine", ["local", "vllm", "openai", "ray"])
@pytest.mark.parametrize("option", ["dialect", "documents_per_request"])
def test_options_of_rerank_servers_are_refused_by_other_engines(engine: str, option: str) -> None:
    flag = f"--{option.replace('_', '-')}"
    with pytest.raises(UsageError, match=f"^{flag} has no effect: it is not for --engine {engine}$"):
        EngineOptions(engine=engine).refuse_unread(frozenset({option}))


def test_a_dialect_in_the_environment_does_not_apply_to_other_engines(lbr: Program) -> None:
    arguments = ("rerank", "--engine", "overlap")
    assert lbr(*arguments, stdin=LINES.encode(), env={"LBR_DIALECT": "tei"}).code == 0
