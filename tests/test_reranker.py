"""`Reranker`: the scores, the cache and the errors of `lbr rerank`."""

from __future__ import annotations

import json
import threading
import typing
from pathlib import Path
from typing import Any

import pytest

import lbr_cli
from lbr_cli import Candidate, Document, LbrError, Query, Ranking, Reranker, engines, setup
from lbr_cli.commands.options.cache import CacheOptions
from lbr_cli.commands.options.engine import EngineOptions
from lbr_cli.commands.options.model import RerankerOptions
from lbr_cli.commands.options.scoring import DocumentOptions, ScoringOptions
from lbr_cli.errors import InputError, MissingError, RequestError, UsageError
from lbr_cli.reranker import Options, RankingOptions
from support.paths import ROOT
from support.program import Program

QUERY = "ripe figs"
TEXTS = ["Figs turn purple.", "", "Trams run on rails.", "Figs turn purple.", "a\nb", "Figs " * 40]
RUN = {"q1": {"d1": 3.0, "d2": 2.0, "d3": 1.0}, "q2": {"d3": 5.0, "d1": 4.0}}
QUERIES = {"q1": "ripe figs", "q2": "trams"}
DOCUMENTS: dict[str, Any] = {
    "d1": "Trams run on rails.",
    "d2": {"title": "Figs", "text": "They turn purple."},
    "d3": "Figs are ripe in autumn.",
}
LOCAL: Any = {"family": "lb", "device": "cpu", "dtype": "float32"}


def options(values: dict[str, Any]) -> list[str]:
    """Return the arguments of the command line for these options."""
    return [part for name, value in values.items() for part in (f"--{name.replace('_', '-')}", str(value))]


def scores_of_command(lbr: Program, model: Path, folder: Path, *more: str, cached: int = 0) -> list[float]:
    """Return the scores of `TEXTS` on the command line; `folder` is the cache, which has `cached` of them."""
    line = json.dumps({"query": QUERY, "documents": TEXTS})
    arguments = ("-m", str(model), *options(LOCAL), "--cache", "--cache-dir", str(folder), *more)
    ended = lbr("rerank", *arguments, stdin=line.encode())
    assert ended.code == 0, ended.err
    assert f" ({cached} cached, " in ended.err
    by_id = {record["doc_id"]: record["score"] for record in ended.records}
    return [by_id[str(index)] for index in range(len(TEXTS))]


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the preparation of an engine fail, so that scores can only come from the cache."""

    def refuse(*_: object) -> None:
        raise AssertionError("an engine is prepared")

    monkeypatch.setattr(setup, "prepare_engine", refuse)


def test_scores_of_the_command_line_are_cached_for_python(
    lbr: Program, chat_model: Path, tmp_path: Path, no_engine: None
) -> None:
    expected = scores_of_command(lbr, chat_model, tmp_path)
    with Reranker(chat_model, cache_dir=tmp_path, **LOCAL) as reranker:
        assert reranker.score(QUERY, TEXTS) == pytest.approx(expected, rel=1e-7)


def test_scores_of_python_are_cached_for_the_command_line(lbr: Program, chat_model: Path, tmp_path: Path) -> None:
    with Reranker(chat_model, cache_dir=tmp_path / "python", **LOCAL) as reranker:
        scores = reranker.score(QUERY, TEXTS)
    known = scores_of_command(lbr, chat_model, tmp_path / "python", cached=len(TEXTS))
    assert known == pytest.approx(scores, rel=1e-7)
    computed = scores_of_command(lbr, chat_model, tmp_path / "command")
    assert all(abs(one - other) <= 1e-5 * max(1, abs(one)) for one, other in zip(scores, computed, strict=True))


def test_passages_are_scored_like_on_the_command_line(lbr: Program, chat_model: Path, tmp_path: Path) -> None:
    passages: Any = {"passages": "mean", "passage_words": 8, "passage_stride": 3}
    expected = scores_of_command(lbr, chat_model, tmp_path / "command", *options(passages))
    scores = Reranker(chat_model, cache=False, **LOCAL, **passages).score(QUERY, TEXTS)
    assert scores == pytest.approx(expected, rel=1e-5)


def test_a_model_is_loaded_once(monkeypatch: pytest.MonkeyPatch, chat_model: Path, tmp_path: Path) -> None:
    prepared = []

    def count(*arguments: Any) -> Any:
        prepared.append(arguments)
        return engines.prepare_engine(*arguments)

    monkeypatch.setattr(setup, "prepare_engine", count)
    reranker = Reranker(chat_model, cache_dir=tmp_path, **LOCAL)
    first = reranker.score(QUERY, TEXTS[:1])
    assert reranker.score(QUERY, TEXTS[:3])[:1] == first
    reranker.score("trams", TEXTS)
    assert len(prepared) == 1


@pytest.mark.parametrize("method", [{}, {"depth": 2}, {"top_k": 1}, {"interpolate": 0.4}])
def test_a_reranked_mapping_equals_the_trec_run_of_the_command_line(
    lbr: Program, tmp_path: Path, method: dict[str, Any]
) -> None:
    lines = [f"{q} Q0 {d} 0 {score} x\n" for q, scores in RUN.items() for d, score in scores.items()]
    (tmp_path / "run.trec").write_text("".join(lines))
    (tmp_path / "queries.tsv").write_text("".join(f"{q}\t{text}\n" for q, text in QUERIES.items()))
    texts = {doc_id: {"text": value} if isinstance(value, str) else value for doc_id, value in DOCUMENTS.items()}
    corpus = "".join(json.dumps({"_id": doc_id, **value}) + "\n" for doc_id, value in texts.items())
    (tmp_path / "docs.jsonl").write_text(corpus)
    out = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", *options(method)).out
    expected: dict[str, dict[str, float]] = {}
    for query_id, _, doc_id, _, score, _ in map(str.split, out.splitlines()):
        expected.setdefault(query_id, {})[doc_id] = float(score)
    reranked = Reranker(engine="overlap").rerank(RUN, QUERIES, DOCUMENTS, **method)  # type: ignore[arg-type]
    assert [(q, *scores) for q, scores in reranked.items()] == [(q, *scores) for q, scores in expected.items()]
    for query_id, scores in expected.items():
        assert reranked[query_id] == pytest.approx(scores, rel=1e-7, abs=1e-40)


def test_reranked_rankings_have_exact_scores_and_both_ranks() -> None:
    candidates = [Candidate(doc_id, Document(doc_id, text)) for doc_id, text in (("a", "x"), ("b", "tea"), ("c", "y"))]
    empty = Query("q2", "tea")
    ((query, rows), other) = Reranker(engine="overlap").rerank(
        [Ranking(Query("q1", "tea"), candidates), Ranking(empty, ())], depth=2
    )
    assert (query, other) == (Query("q1", "tea"), (empty, []))
    found = [(row.candidate.doc_id, row.rank, row.score, row.first_stage_rank) for row in rows]
    assert found == [("b", 1, 1.0, 2), ("a", 2, 0.0, 1), ("c", 3, None, 3)]


def test_texts_may_be_empty_or_duplicate_and_the_list_empty() -> None:
    reranker = Reranker(engine="overlap")
    assert reranker.score("tea", ["tea", "", "tea"]) == [1.0, 0.0, 1.0]
    assert reranker.score("", ["tea"]) == [0.0]
    assert reranker.score("tea", iter(())) == []


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        ({}, InputError, "run: holds no candidates"),
        ({"q1": {}}, InputError, "run: holds no candidates"),
        ({"q1": {"d9": 1}}, InputError, "documents: 1 of 1 ids of the run not found: d9"),
        ([], UsageError, "queries and documents have no effect: rankings hold their texts"),
    ],
)
def test_a_run_that_cannot_be_reranked_is_an_error(run: Any, error: type[LbrError], message: str) -> None:
    with pytest.raises(error) as raised:
        Reranker(engine="overlap").rerank(run, QUERIES, DOCUMENTS)
    assert str(raised.value) == message


def test_a_mapping_needs_texts_and_an_iterable_holds_rankings() -> None:
    reranker: Any = Reranker(engine="overlap")
    with pytest.raises(UsageError, match="a run of ids needs queries and documents"):
        reranker.rerank(RUN)
    for run in ("run.trec", 5):
        with pytest.raises(InputError, match=f"run: has to hold objects of the type Ranking, not {type(run).__name__}"):
            reranker.rerank(run)
    with pytest.raises(InputError, match="run: holds no candidates"):
        reranker.rerank([])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": "nowhere"}, MissingError, "--model nowhere: no such folder or GGUF file, and no alias or hub id"),
        ({"model": 5}, UsageError, "Invalid value for '--model': 5 is of the type int"),
        ({"dtype": "int3"}, UsageError, "Invalid value for '--dtype' (env var: 'LBR_DTYPE'): 'int3' is not one of "),
        ({"threads": True}, UsageError, "Invalid value for '--threads': True is of the type bool"),
        ({"threads": 0}, UsageError, "Invalid value for '--threads' (env var: 'LBR_THREADS'): Input should be greater"),
        ({"cache": "folder"}, UsageError, "Invalid value for '--cache': 'folder' is of the type str"),
        ({"engine": "nonsense"}, UsageError, "Invalid value for '--engine' (env var: 'LBR_ENGINE'): 'nonsense' is not"),
        ({"passage_words": 9}, UsageError, "--passage-words has no effect: there is no --passages"),
        ({"workers": 2}, UsageError, "--workers has no effect: it is not for --engine local"),
        ({"engine": "openai"}, UsageError, "--engine openai needs --base-url"),
        ({"model": "lb", "engine": "overlap"}, UsageError, "--model has no effect: --engine overlap uses no model"),
        ({"cache": False, "cache_dir": "x"}, UsageError, "--cache-dir has no effect: no scores are cached"),
        ({"instruction": "\udc80"}, UsageError, "--instruction: not UTF-8"),
    ],
)
def test_invalid_options_have_the_messages_of_the_command_line(
    arguments: dict[str, Any], error: type[LbrError], message: str
) -> None:
    with pytest.raises(error) as raised:
        Reranker(**arguments)
    assert str(raised.value).startswith(message)


def test_unknown_arguments_are_type_errors() -> None:
    with pytest.raises(TypeError, match=r"Reranker\(\) got an unexpected keyword argument 'depth'"):
        Reranker("lb", depth=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"rerank\(\) got an unexpected keyword argument 'k'"):
        Reranker(engine="overlap").rerank([], k=3)  # type: ignore[call-overload]


def test_environment_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LBR_ENGINE", "overlap")
    assert Reranker().score("tea", ["tea"]) == [1.0]
    monkeypatch.setenv("LBR_ENGINE", "nonsense")
    with pytest.raises(UsageError, match="'nonsense' is not one of"):
        Reranker()


def test_an_error_names_the_index_of_the_text(chat_model: Path) -> None:
    reranker = Reranker(chat_model, cache=False, max_length=40, **LOCAL)
    with pytest.raises(RequestError, match="query 1, document 0: "):
        reranker.score("figs " * 100, ["Figs turn purple."])


def test_a_closed_reranker_is_an_error() -> None:
    with Reranker(engine="overlap") as reranker:
        pass
    with pytest.raises(UsageError, match="this Reranker is closed"):
        reranker.score("tea", ["tea"])


def test_concurrent_threads_score_one_after_the_other(chat_model: Path, tmp_path: Path) -> None:
    reranker = Reranker(chat_model, cache_dir=tmp_path, **LOCAL)
    expected = reranker.score(QUERY, TEXTS)
    results: list[list[float]] = []
    threads = [threading.Thread(target=lambda: results.append(reranker.score(QUERY, TEXTS))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 4


def test_a_damaged_cache_is_a_warning(chat_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "scores.sqlite").write_bytes(b"no database" * 500)
    scores = Reranker(chat_model, cache_dir=tmp_path, **LOCAL).score(QUERY, TEXTS)
    assert len(scores) == len(TEXTS)
    assert {record.name for record in caplog.records} == {"lbr_cli"}
    assert caplog.messages[0].startswith("no score cache in this run: ")


def test_arguments_equal_the_options_of_the_command_line() -> None:
    groups = (RerankerOptions, DocumentOptions, EngineOptions, CacheOptions)
    assert [*Options.__annotations__] == [name for group in groups for name in group.names() if name != "model"]
    assert [*RankingOptions.__annotations__] == ScoringOptions.names()
    for arguments, of_command in ((Options, groups), (RankingOptions, (ScoringOptions,))):
        hints = {name: hint for group in of_command for name, hint in typing.get_type_hints(group).items()}
        for name, hint in typing.get_type_hints(arguments).items():
            known = {*(typing.get_args(hints[name]) or (hints[name],))}
            assert known <= {*(typing.get_args(hint) or (hint,))}, name


def test_public_names_are_typed_and_exported() -> None:
    assert (ROOT / "lbr_cli" / "py.typed").is_file()
    assert {*lbr_cli.__all__} <= {*dir(lbr_cli)}
    assert all(getattr(lbr_cli, name) is not None for name in lbr_cli.__all__)
    with pytest.raises(AttributeError, match="module 'lbr_cli' has no attribute 'Rereader'"):
        lbr_cli.Rereader  # type: ignore[attr-defined]  # noqa: B018
