"""`lbr report`: the data of its page. Its behaviour in a browser is tested in test_page.py."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbr_cli.core import Candidate, Document
from lbr_cli.evaluation.runs import Run
from lbr_cli.evaluation.significance import interval
from lbr_cli.report import page
from lbr_cli.report.page_data import MAX_BYTES, MIN_TEXT_BYTES, Texts, page_data
from support.files import QUERIES, write
from support.paths import ROOT
from support.program import Program
from support.texts import EVIL

SAMPLES = ROOT / "samples"


def data_of(html: str) -> dict[str, Any]:
    """Return the data that a page holds."""
    found: dict[str, Any] = json.loads(re.findall(r'<script id="data" type="application/json">(.*?)</script>', html)[0])
    return found


@pytest.fixture
def reranked(tmp_path: Path, lbr: Program) -> Path:
    """Rerank the run of the samples with overlap and --explain, and return the JSONL file."""
    command = ["rerank", str(SAMPLES / "run.trec"), "-c", str(SAMPLES / "docs.jsonl"), "--engine", "overlap"]
    assert lbr(*command, "--explain", "-o", "after.jsonl").code == 0
    return tmp_path / "after.jsonl"


def report(lbr: Program, *arguments: str) -> str:
    ended = lbr("report", str(SAMPLES / "run.trec"), *arguments, "-o", "-")
    assert ended.code == 0, ended.err
    return ended.out


def test_values_equal_those_of_evaluate(reranked: Path, lbr: Program) -> None:
    qrels = ["--qrels", str(SAMPLES / "qrels.txt")]
    shown = data_of(report(lbr, str(reranked), *qrels, "-c", str(SAMPLES / "docs.jsonl")))
    measures = ["--format", "json", "--per-query", "q.jsonl"]
    evaluated = json.loads(lbr("evaluate", *qrels, str(SAMPLES / "run.trec"), str(reranked), *measures).out)
    assert [measure["name"] for measure in shown["measures"]] == evaluated["measures"]
    for measure in shown["measures"]:
        for row, run in zip(measure["rows"], evaluated["runs"], strict=True):
            expected = run["measures"][measure["name"]]
            assert row["value"] == expected["value"]
            assert row["interval"][0] <= row["value"] <= row["interval"][1]
            if "p_holm" in expected:
                assert (row["change"], row["p"]) == (expected["change"], expected["p_holm"])
                assert row["counts"] == [expected["wins"], expected["ties"], expected["losses"]]
    per_query = [json.loads(line) for line in (reranked.parent / "q.jsonl").read_text().splitlines()]
    values = {(line["run"], line["query_id"]): line for line in per_query}
    for query in shown["queries"]:
        for name, of_runs in zip(evaluated["measures"], query["values"], strict=True):
            for run, value in zip(shown["runs"], of_runs, strict=True):
                assert value == pytest.approx(values[run, query["id"]][name], abs=1e-6)


def test_the_page_has_rankings_texts_and_grades(reranked: Path, lbr: Program) -> None:
    shown = data_of(
        report(lbr, str(reranked), "--qrels", str(SAMPLES / "qrels.txt"), "-c", str(SAMPLES / "docs.jsonl"))
    )
    kettle = next(query for query in shown["queries"] if query["id"] == "kettle-scale")
    assert kettle["text"] == "how do I get rid of the white crust inside my kettle"
    (before, after) = ([shown["documents"][line[0]] for line in lines] for lines in kettle["lists"])
    assert before[0][0] == "home-05"
    assert before[0][1] == "Getting rid of ants"
    assert before[0][2].startswith("How do I get rid of ants inside my house?")
    assert sorted(row[0] for row in before) == sorted(row[0] for row in after)
    assert kettle["lists"][0][0][1] == 8.1815
    grades = {shown["documents"][row[0]][0]: row[1:] for row in kettle["grades"]}
    assert grades["home-01"][0] == 3
    assert grades["home-07"][1] == [None, None]  # relevant, but in no ranking
    assert shown["coverage"][0][:2] == [0, 0]


def test_without_judgments_the_page_has_rankings_only(reranked: Path, lbr: Program) -> None:
    shown = data_of(report(lbr, str(reranked)))
    assert (shown["measures"], shown["curves"], shown["judged"]) == ([], [], 0)
    assert all("grades" not in query and "values" not in query for query in shown["queries"])
    assert all(len(row) == 1 for row in shown["documents"])  # ids without texts


def test_texts_in_the_lines_are_used_without_a_corpus(tmp_path: Path, lbr: Program) -> None:
    line = '{{"query_id":"q","query":"figs","doc_id":"d{}","score":{},"text":"text {}","title":"T"}}\n'
    write(tmp_path, {"a.jsonl": line.format(1, 2, 1) + line.format(2, 1, 2)})
    ended = lbr("report", "a.jsonl", "a.jsonl", "-o", "page.html", "--quiet")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    shown = data_of((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert shown["documents"] == [["d1", "T", "text 1"], ["d2", "T", "text 2"]]
    assert shown["queries"][0]["text"] == "figs"


def test_details_of_explain_are_shown_if_they_are_valid(tmp_path: Path, lbr: Program) -> None:
    details = [
        {"digits": [0.1] * 7, "mass": 0.7, "truncated": True, "passage": {"start": 3, "text": "abcd", "number": 1}},
        {"digits": "none", "mass": "x", "truncated": 1, "passage": "text", "probability": True},
        {"digits": [1, 2], "probability": 0.25, "reranker_score": 1.5, "passage": {"start": 2, "text": "abcd"}},
        {"passage": {"start": -4, "text": "abcd", "digits": [0.2] * 7}},  # of a mean over passages
    ]
    line = {"query_id": "q", "text": "xyzabcd"}
    lines = [line | {"doc_id": f"d{n}", "score": -n} | detail for n, detail in enumerate(details)]
    write(tmp_path, {"a.jsonl": "".join(f"{json.dumps(line)}\n" for line in lines)})
    shown = data_of(lbr("report", "a.jsonl", "a.jsonl", "-o", "-").out)
    assert shown["queries"][0]["lists"][0] == [
        [0, 0.0, 0, {"digits": [0.1] * 7, "mass": 0.7, "truncated": True, "passage": [3, 7]}],
        [1, -1.0, 1],
        [2, -2.0, 2, {"probability": 0.25, "reranker_score": 1.5}],
        [3, -3.0, 3, {"digits": [0.2] * 7}],
    ]


def test_ranks_are_those_of_the_whole_run(tmp_path: Path, lbr: Program) -> None:
    for name, order in (("a.trec", 1), ("b.trec", -1)):
        write(tmp_path, {name: "".join(f"q Q0 d{n} 1 {-n * order} x\n" for n in range(300))})
    write(tmp_path, {"qrels.txt": "q 0 d150 1\nq 0 zz 1\nr 0 d1 1\n"})
    ended = lbr("report", "a.trec", "b.trec", "--qrels", "qrels.txt", "--depth", "2", "-o", "-")
    shown = data_of(ended.out)
    query, absent = shown["queries"]
    assert query["lists"][1] == [[2, 299.0, 299], [3, 298.0, 298]]
    grades = {shown["documents"][number][0]: [grade, *ranks] for number, grade, ranks in query["grades"]}
    assert grades == {"d150": [1, 150, 149], "zz": [1, None, None]}
    assert (absent["id"], absent["lists"]) == ("r", [[], []])  # judged, but in no run
    assert shown["coverage"][0][0] == 1
    assert "lbr: warning: a.trec: 1 of 2 judged queries are missing, and count 0" in ended.err


def test_the_name_of_a_run_may_be_a_placeholder_of_the_page(files: Path, lbr: Program) -> None:
    (files / "{{data}}.trec").write_text("q1 Q0 d1 1 1 x\n")
    ended = lbr("report", "{{data}}.trec", "run.trec", "-o", "-")
    assert data_of(ended.out)["runs"][0] == "{{data}}.trec"


def test_a_queries_file_beside_the_run_is_not_overwritten(files: Path, lbr: Program) -> None:
    ended = lbr("report", "run.trec", "run.trec", "-o", "queries.tsv", "--quiet")
    assert (ended.code, ended.err) == (2, "lbr: --output queries.tsv: would overwrite the queries file queries.tsv\n")
    assert (files / "queries.tsv").read_text() == QUERIES


def test_some_documents_may_have_no_text(files: Path, lbr: Program) -> None:
    lines = '{"query_id":"q","doc_id":"d1","score":1,"text":"t"}\n{"query_id":"q","doc_id":"zz","score":0}\n'
    write(files, {"a.jsonl": lines})
    assert lbr("report", "a.jsonl", "a.jsonl", "-c", "docs.jsonl", "-o", "-").code == 0


def test_the_page_requests_nothing_and_escapes_texts(tmp_path: Path, lbr: Program) -> None:
    line = {"query_id": EVIL, "doc_id": EVIL, "score": 1, "text": EVIL, "title": EVIL, "query": EVIL}
    write(tmp_path, {"a.jsonl": json.dumps(line) + "\n"})
    html = lbr("report", "a.jsonl", "a.jsonl", "-o", "-").out
    assert html.count("<script") == html.count("</script>") == 2
    assert EVIL not in html
    assert "\u2028" not in html
    assert not re.search(r"(src|href)=", html)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", html)
    assert data_of(html)["queries"][0]["id"] == EVIL


@given(st.text(max_size=40))
def test_any_text_is_unchanged(text: str) -> None:
    run = Run("run", {"q": ["d"]}, {"q": {"d": Candidate("d", score=1.0)}})
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    html = page(page_data([run, run], Texts({"q": text}, {"d": Document("d", text, text)}), 10), text).decode()
    assert data_of(html)["documents"] == [["d", text, text]]
    assert html.count("</script>") == 2


@pytest.mark.slow
@pytest.mark.parametrize("letter", ["a", "<", '"', "語", "\u2028"])
def test_texts_are_truncated_to_limit_the_size_of_the_page(letter: str) -> None:
    many = {f"d{number}": Document(f"d{number}", letter * (10_000 + number)) for number in range(2000)}
    run = Run("run", {"q": list(many)}, {"q": {doc_id: Candidate(doc_id, score=1.0) for doc_id in many}})
    shown = page_data([run, run], Texts({}, many), depth=2000)
    assert len(page(shown, "t")) < 15_000_000
    assert len(page(shown, "t")) > MAX_BYTES / 2
    assert all(len(row[2]) == len(many[row[0]].text) for row in shown["documents"][:20])  # the top is whole
    cut = [row for row in shown["documents"] if len(row) == 4]
    assert len({len(row[2]) for row in cut}) == 1
    few = page_data([run, run], Texts({}, {}), depth=1)
    assert few["documents"] == [["d0"]]
    assert MIN_TEXT_BYTES < MAX_BYTES
    titled = {doc_id: Document(doc_id, "text", letter * 1_000_000) for doc_id in list(many)[:20]}
    # texts are kept beside large titles
    assert all(row[2] for row in page_data([run, run], Texts({}, titled), depth=20)["documents"])


def test_the_confidence_interval_is_that_of_the_bootstrap() -> None:
    values = [0.0, 1.0] * 200
    low, high = interval(values)
    assert low == pytest.approx(0.5 - 1.96 * 0.5 / 20, abs=0.01)  # the value of the normal distribution
    assert high == pytest.approx(0.5 + 1.96 * 0.5 / 20, abs=0.01)
    assert interval(values) == (low, high)
    assert interval([0.25]) == (0.25, 0.25)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--measures", "AP"], "--measures has no effect: there is no --qrels"),
        (["--id-field", "x"], "--id-field has no effect: there is no --corpus"),
        (["-q", "no.tsv"], "no.tsv: cannot be read: No such file or directory"),
        (["-q", "other.tsv"], "other.tsv: holds none of the queries of the runs"),
        (["-c", "other.tsv"], "other.tsv: holds none of the documents of the runs"),
        (["--qrels", "other.txt"], "run.trec: none of 2 queries is judged in other.txt"),
    ],
)
def test_invalid_input_is_an_error(files: Path, lbr: Program, arguments: list[str], message: str) -> None:
    write(files, {"other.tsv": "x\ty\n", "other.txt": "x 0 y 1\n"})
    ended = lbr("report", "run.trec", "run.trec", *arguments, "-o", "page.html")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines()[-1 if "hint" not in ended.err else -2].startswith(f"lbr: {message}")
    assert not (files / "page.html").exists()


def test_an_input_is_not_overwritten(files: Path, lbr: Program) -> None:
    ended = lbr("report", "run.trec", "run.trec", "-o", "run.trec")
    assert (ended.code, ended.err) == (2, "lbr: --output run.trec: would overwrite the run run.trec\n")
