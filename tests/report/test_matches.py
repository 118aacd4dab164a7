"""The matched tokens of late interaction on the page of `lbr report`. Their marks are tested in test_page.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lbr_cli.core import Candidate, Document
from lbr_cli.evaluation.runs import Run
from lbr_cli.report import page
from lbr_cli.report.html_json import html_json_size
from lbr_cli.report.page_data import MAX_MATCH_BYTES, Texts, page_data
from support.files import write
from support.late_interaction import stanford
from support.program import Program

DOCUMENT = Document("d", "Ripe figs turn purple.", "Figs")
CONTENTS = "Figs Ripe figs turn purple."


def match(query_token: str, document_token: str, start: int | None, similarity: float = 0.5) -> dict[str, Any]:
    span = {} if start is None else {"start": start, "end": start + len(document_token)}
    return {"query_token": query_token, "document_token": document_token, **span, "similarity": similarity}


def run_of(*extras: dict[str, Any], name: str = "run") -> Run:
    """Return a run of one query, with documents d, d1, d2 ..."""
    ids = [f"d{number or ''}" for number in range(len(extras))]
    candidates = {doc_id: Candidate(doc_id, extra=extra) for doc_id, extra in zip(ids, extras, strict=True)}
    return Run(name, {"q": ids}, {"q": candidates})


def shown(matches: object, document: Document | None = DOCUMENT, **extra: Any) -> tuple[Any, list[str]]:
    """Return the matches of a document in the data of the page, and the warnings."""
    warnings: list[str] = []
    documents = {document.doc_id: document} if document else {}
    runs = [run_of({}), run_of({"matches": matches, **extra})]
    (query,) = page_data(runs, Texts({}, documents), 10, warn=warnings.append)["queries"]
    return query.get("matches", [None, None])[1], warnings


def test_tokens_are_numbered_and_located_in_title_and_text() -> None:
    matches = [
        match("[CLS]", "[CLS]", None, 0.91),
        match("figs", " figs", 9, 0.987654),
        match("ripe", "Ripe", 5, 1),
        match("[MASK]", " figs", 9, 0.5),
        match("[MASK]", "Figs", 0, -0.25),
        match("[SEP]", " ", 4, 0.1),
    ]
    found, warnings = shown(matches)
    assert found == {
        "tokens": ["[CLS]", "figs", "ripe", "[MASK]", "[SEP]"],
        "rows": [
            {
                "title": [[0, 4, 3, -0.25]],
                "text": [[0, 4, 2, 1.0], [5, 4, 1, 0.99, 3, 0.5]],
                "others": [["[CLS]", 0, 0, 0.91], [" ", 0, 4, 0.1]],
            }
        ],
    }
    assert warnings == []


def test_tokens_that_overlap_are_one_mark() -> None:
    matches = [match("a", "figs turn", 10, 0.5), match("b", "turn purple", 15, 0.75), match("c", "Ripe", 5, 0.25)]
    found, _ = shown(matches)
    assert found["rows"] == [{"text": [[0, 4, 2, 0.25], [5, 16, 0, 0.5, 1, 0.75]]}]


def test_positions_are_those_in_the_passage() -> None:
    passage = {"start": 5, "text": "figs turn", "number": 1}
    matches = [match("figs", "figs", 5), match("title", "Figs", 0)]
    found, _ = shown(matches, passage=passage)
    assert found["rows"] == [{"title": [[0, 4, 1, 0.5]], "text": [[5, 4, 0, 0.5]]}]
    of_mean, _ = shown("not those of a mean", passage=passage | {"matches": matches})
    assert of_mean is None  # the value of the line takes precedence over that of the passage
    run = run_of({"passage": passage | {"matches": matches}})
    (query,) = page_data([run, run], Texts({}, {"d": DOCUMENT}), 10)["queries"]
    assert query["matches"] == [found, found]


@pytest.mark.parametrize(
    ("matches", "extra"),
    [
        ([match("figs", "figs", 9)], {}),  # not at these offsets
        ([match("ripe", "Ripe", 5), match("purple", "yellow", 20)], {}),  # none is marked
        ([match("figs", "figs", 200)], {}),
        ([match("purple", "s.", -2)], {}),
        ([{"query_token": "a", "document_token": "", "start": 3, "end": 3, "similarity": 1}], {}),
        ([{"query_token": "a", "document_token": "", "start": 5, "end": 2, "similarity": 1}], {}),
        ([match("figs", "figs", 10)], {"passage": {"start": 1, "text": "Figs", "number": 1}}),
        ([match("figs", "figs", 10)], {"passage": {}}),
    ],
)
def test_nothing_is_marked_in_another_text(matches: list[dict[str, Any]], extra: dict[str, Any]) -> None:
    found, warnings = shown(matches, **extra)
    assert found == {"tokens": [], "rows": [0]}
    reason = "the text differs from the one that was scored (first: query q, document d)"
    assert warnings == [f"run: matched tokens are not marked in 1 document: {reason}"]


def test_a_title_that_was_not_scored_makes_the_text_different() -> None:
    matches = [match("ripe", "Ripe", 0)]
    assert shown(matches, Document("d", DOCUMENT.text))[0]["rows"] == [{"text": [[0, 4, 0, 0.5]]}]
    assert shown(matches)[0]["rows"] == [0]


def test_matches_of_an_unknown_text_are_a_warning() -> None:
    found, warnings = shown([match("ripe", "Ripe", 0)], None)
    assert found is None
    reason = "the text is unknown, add its --corpus (first: query q, document d)"
    assert warnings == [f"run: matched tokens are not marked in 1 document: {reason}"]


@pytest.mark.parametrize(
    "matches",
    [
        [],
        "figs",
        {"figs": 1},
        [1],
        [{"query_token": "a", "document_token": "b"}],
        [match("a", "Ripe", 5), {}],
        [match("a", "Ripe", 5) | {"similarity": "high"}],
        [match("a", "Ripe", 5) | {"similarity": True}],
        [match("a", "Ripe", 5) | {"start": None}],
        [match("a", "Ripe", 5) | {"end": "9"}],
        [match("a", "Ripe", 5) | {"start": 5.0}],
        [match("a", "Ripe", 5) | {"query_token": None}],
    ],
)
def test_another_value_under_the_key_is_ignored(matches: object) -> None:
    assert shown(matches) == (None, [])


texts = st.text(alphabet="ab 😀é\n語<", max_size=12)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(texts, texts, st.data())
def test_rows_are_disjoint_and_cover_each_token(title: str, text: str, data: st.DataObject) -> None:
    document = Document("d", text, title)
    contents = document.contents
    spans = data.draw(st.lists(st.tuples(*[st.integers(0, len(contents))] * 2).map(sorted), min_size=1))
    tokens = [(start, contents[start:end]) for start, end in spans if start < end]
    found, warnings = shown(
        [match(str(number), token, start) for number, (start, token) in enumerate(tokens)], document
    )
    assert warnings == []
    if not tokens:
        assert found is None
        return
    (rows,) = found["rows"]
    numbers = [
        int(found["tokens"][row[index]]) for kind in rows.values() for row in kind for index in range(2, len(row), 2)
    ]
    assert set(numbers) == set(range(len(tokens)))
    offset = len(title) + 1 if title and text else 0
    for name, whole, begin in (("title", title, 0), ("text", text, offset)):
        ends = [0, *(part for start, length, *_ in rows.get(name, []) for part in (start, start + length))]
        assert ends == sorted(ends)
        assert ends[-1] <= len(whole)
        for start, length, *pairs in rows.get(name, []):
            of_row = [tokens[int(found["tokens"][number])] for number in pairs[::2]]
            covered = {index - begin for first, token in of_row for index in range(first, first + len(token))}
            assert set(range(start, start + length)) <= covered
            blanks = {index for index in covered if 0 <= index < len(whole) and whole[index].isspace()}
            assert covered & set(range(len(whole))) <= set(range(start, start + length)) | blanks


@given(texts, texts)
def test_markup_in_tokens_is_escaped(query_token: str, document_token: str) -> None:
    evil = "</script><!--\u2028"
    run = run_of({"matches": [match(query_token + evil, document_token + evil, None)]})
    html = page(page_data([run, run], Texts({}, {"d": DOCUMENT}), 10), "t").decode()
    assert html.count("</script>") == 2
    assert evil not in html


def test_matches_of_the_first_documents_are_kept_within_the_size_limit() -> None:
    ids = [f"d{number}" for number in range(30)]
    candidates = {doc_id: Candidate(doc_id, extra={"matches": [match("[MASK]", "語" * 1000, None)]}) for doc_id in ids}
    query_ids = [f"q{number}" for number in range(40)]
    run = Run("run", dict.fromkeys(query_ids, ids), dict.fromkeys(query_ids, candidates))
    documents = {doc_id: Document(doc_id, "text") for doc_id in ids}
    warnings: list[str] = []
    data = page_data([run, run], Texts({}, documents), 10**9, warn=warnings.append)
    kept = data["matches_depth"]
    assert 0 < kept < len(ids)
    rows = [ranking["rows"] for query in data["queries"] for ranking in query["matches"]]
    assert {len(one) for one in rows} == {kept}
    assert MAX_MATCH_BYTES * (kept - 1) / (kept + 1) < html_json_size(rows) <= MAX_MATCH_BYTES + 100
    problem = "more would make the page too large"
    assert warnings == [f"matched tokens are shown for {kept} documents of each ranking: {problem}"]
    assert page_data([run, run], Texts({}, documents), 5, warn=warnings.append)["matches_depth"] == 5
    assert len(warnings) == 1


@pytest.mark.slow
def test_the_page_of_a_late_interaction_job(tmp_path: Path, lbr: Program) -> None:
    folder = stanford(tmp_path / "model")
    texts = {"d1": "Bread needs salt. " * 12 + "Ripe figs turn purple.", "d2": "trams use gauge"}
    corpus = [{"_id": doc_id, "title": "Über figs", "text": text} for doc_id, text in texts.items()]
    lines = {"docs.jsonl": corpus, "other.jsonl": [corpus[0], corpus[1] | {"text": "trams used gauge"}]}
    write(tmp_path, {name: "".join(f"{json.dumps(one)}\n" for one in many) for name, many in lines.items()})
    write(tmp_path, {"run.trec": "1 Q0 d1 1 2 x\n1 Q0 d2 2 1 x\n", "queries.tsv": "1\tripe figs\n"})
    options = ("--passages", "max", "--passage-words", "10", "--no-cache", "--explain", "--dtype", "float32")
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "-m", str(folder), *options, "-o", "after.jsonl")
    assert ended.code == 0, ended.err
    records = {line["doc_id"]: line for line in map(json.loads, (tmp_path / "after.jsonl").read_text().splitlines())}
    ended = lbr("report", "run.trec", "after.jsonl", "-c", "docs.jsonl", "-o", "-", "--quiet")
    assert (ended.code, ended.err) == (0, "")
    data = json.loads(ended.out.split('type="application/json">')[1].split("</script>")[0])
    ranking = data["queries"][0]["matches"][1]
    for (number, *_), rows in zip(data["queries"][0]["lists"][1], ranking["rows"], strict=True):
        doc_id, *of_document = data["documents"][number]
        marked = {
            (whole[start : start + length], ranking["tokens"][pairs[index]])
            for whole, kind in zip(of_document, ("title", "text"), strict=True)
            for start, length, *pairs in rows.get(kind, [])
            for index in range(0, len(pairs), 2)
        }
        expected = records[doc_id]["matches"]
        assert marked == {(one["document_token"], one["query_token"]) for one in expected if "start" in one}
        assert marked
    ended = lbr("report", "run.trec", "after.jsonl", "-c", "other.jsonl", "-o", "other.html", "--quiet")
    reason = "the text differs from the one that was scored (first: query 1, document d2)"
    assert ended.err == f"lbr: warning: after.jsonl: matched tokens are not marked in 1 document: {reason}\n"
