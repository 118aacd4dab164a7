"""`lbr evaluate`: values equal to trec_eval, output formats, warnings and errors."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import ir_measures
import pytest
import pytrec_eval
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from ir_measures.measures import registry

from lbr_cli.errors import UsageError
from lbr_cli.evaluation import evaluate
from lbr_cli.evaluation.measures import parse_measures
from lbr_cli.evaluation.runs import Run, read_judgments, read_run
from lbr_cli.evaluation.significance import holm, paired_t_test
from lbr_cli.evaluation.tables import as_table
from support.files import write
from support.paths import ROOT
from support.program import Program

QRELS = "q1 0 d1 0\nq1 0 d2 2\nq2 0 d2 1\nq3 0 d9 1\n"
BEFORE = "q1 Q0 d1 1 9.5 bm25\nq1 Q0 d2 2 8.1 bm25\nq2 Q0 d2 1 7.0 bm25\nq4 Q0 d5 1 1 bm25\n"
AFTER = "q1 Q0 d2 1 3 lbr\nq1 Q0 d1 2 2 lbr\nq2 Q0 d3 1 9 lbr\nq2 Q0 d2 2 8 lbr\n"
EVALUATE = ["evaluate", "--qrels", "qrels.txt"]
# trec_eval's name, with what follows its last _ as the cut-off -> ours
NAMES = {
    **{"map": "AP", "Rprec": "Rprec", "bpref": "Bpref", "recip_rank": "RR", "infAP": "infAP", "ndcg": "nDCG"},
    **{"num_q": "NumQ", "num_ret": "NumRet", "num_rel": "NumRel", "num_rel_ret": "NumRet(rel=1)"},
    **{"set_P": "SetP", "set_recall": "SetR", "set_map": "SetAP", "set_F": "SetF"},
    "set_relative_P": "SetP(relative=True)",
}
WITH_CUTOFF = {"P": "P", "recall": "R", "ndcg_cut": "nDCG", "map_cut": "AP", "success": "Success"}
WITH_CUTOFF |= {"iprec_at_recall": "IPrec"}


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    """Return a folder with qrels.txt and two runs, before.trec and after.trec."""
    return write(tmp_path, {"qrels.txt": QRELS, "before.trec": BEFORE, "after.trec": AFTER})


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a Python program in a folder, and return the completed process."""
    environment = {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)


def our_name(name: str) -> str | None:
    stem, _, cutoff = name.rpartition("_")
    return NAMES.get(name) or (f"{WITH_CUTOFF[stem]}@{float(cutoff):g}" if stem in WITH_CUTOFF else None)


def ours(qrels: Path, run: Path, names: list[str]) -> tuple[Mapping[str, float], Mapping[str, Mapping[str, float]]]:
    (evaluated,) = evaluate(read_judgments(str(qrels)), [read_run(str(run))], parse_measures(names)).runs
    return evaluated.means, evaluated.values


@pytest.mark.parametrize(
    ("run", "output", "measures"), [("results.test", "out.test", 28), ("results.trunc", "out.test.aqc", 65)]
)
def test_values_equal_the_published_output_of_trec_eval(data: Path, run: str, output: str, measures: int) -> None:
    wild = data / "wild"
    published: dict[tuple[str, str], str] = {}
    for line in (wild / output).read_text().splitlines():
        name, query_id, value = line.split(maxsplit=2)
        known = our_name(name)
        if known:
            published[known, query_id] = value
    names = sorted({name for name, _ in published})
    assert len(names) == measures
    means, values = ours(wild / "qrels.test", wild / run, names)
    for (name, query_id), value in published.items():
        name = str(parse_measures([name])[0])
        found = means[name] if query_id == "all" else values[name][query_id]
        assert (str(int(found)) if name.startswith("Num") else f"{found:.4f}") == value, (name, query_id)


@pytest.mark.slow
def test_values_of_twenty_runs_with_ties_equal_pytrec_eval(data: Path, tmp_path: Path) -> None:
    # five collections, with their scores and with scores that are rounded until most are ties
    names = {"ndcg_cut_10": "nDCG@10", "recip_rank": "RR", "map": "AP", "P_1": "P@1", "recall_100": "R@100"}
    runs = 0
    ties = 0
    for folder in ("cranfield", "scifact_subset", "medquad_liveqa", "covidqa_long", "xquad/de"):
        qrels = data / folder / "qrels.txt"
        lines = [line.split() for line in (data / folder / "run.bm25.trec").read_text().splitlines()]
        for seed, digits in enumerate((8, 1, 0, -1)):
            random.Random(seed).shuffle(lines)
            scores: dict[str, dict[str, float]] = {}
            for query_id, _, doc_id, _, score, _ in lines:
                scores.setdefault(query_id, {})[doc_id] = round(float(score), digits)
            ties += sum(len(of_query) - len(set(of_query.values())) for of_query in scores.values())
            run = tmp_path / f"{runs}.trec"
            run.write_text("".join(f"{q} Q0 {d} 1 {s!r} x\n" for q, of_q in scores.items() for d, s in of_q.items()))
            judgments = read_judgments(str(qrels))
            theirs = pytrec_eval.RelevanceEvaluator(judgments, set(names)).evaluate(scores)
            means, _ = ours(qrels, run, list(names.values()))
            for their_name, our in names.items():
                mean = sum(theirs[q][their_name] if q in theirs else 0.0 for q in judgments) / len(judgments)
                assert means[our] == pytest.approx(mean, abs=1e-9)
            runs += 1
    assert runs == 20
    assert ties > 100_000


floats = st.sampled_from([0.0, -0.0, 1.0, 1.0 + 1e-9, 0.1, 3e-46, 1e30, -5.0])
ids = st.text(st.sampled_from("aAzZ09é漢😀-"), min_size=1, max_size=3)


@given(st.dictionaries(ids, st.tuples(floats, st.integers(-1, 3)), min_size=1, max_size=12))
def test_values_equal_pytrec_eval_for_any_ties_and_grades(documents: dict[str, tuple[float, int]]) -> None:
    grades = {"q": {doc_id: grade for doc_id, (_, grade) in documents.items()}}
    scores = {"q": {doc_id: score for doc_id, (score, _) in documents.items()}}
    measures_ = {"ndcg", "map", "P_1", "recip_rank"}
    theirs = dict.fromkeys(measures_, 0.0)
    if any(grade >= 0 for grade in grades["q"].values()):  # pytrec_eval does not return for other grades
        theirs = pytrec_eval.RelevanceEvaluator(grades, measures_).evaluate(scores)["q"]
    lines = "".join(f"q Q0 {doc_id} 1 {score!r} x\n" for doc_id, (score, _) in documents.items())
    with tempfile.NamedTemporaryFile("w", suffix=".trec", encoding="utf-8") as run:
        run.write(lines)
        run.flush()
        (found,) = evaluate(grades, [read_run(run.name)], parse_measures(["nDCG AP P@1 RR"])).runs
    assert found.means == pytest.approx(
        {"nDCG": theirs["ndcg"], "AP": theirs["map"], "P@1": theirs["P_1"], "RR": theirs["recip_rank"]}
    )


ODD_IDS = ["a-1", "b-1", "d\0a", "d\0b", "d 1", "nowhere", "0", "00"]


@pytest.mark.parametrize("name", sorted(registry))
def test_every_measure_is_computed_or_refused_for_any_ids(name: str) -> None:
    judgments = {query_id: {doc_id: index - 1 for index, doc_id in enumerate(ODD_IDS)} for query_id in ODD_IDS}
    run = Run("r", dict.fromkeys(ODD_IDS[:-1], ODD_IDS))
    plain = [str(index) for index in range(len(ODD_IDS))]
    plain_judgments = {query_id: {doc_id: index - 1 for index, doc_id in enumerate(plain)} for query_id in plain}
    for text in (name, f"{name}@2", f"{name}@0.2", f"{name}(rel=2)", f"{name}(max_rel=3)@2"):
        try:
            (found,) = evaluate(judgments, [run], parse_measures([text])).runs
        except UsageError:
            continue
        (expected,) = evaluate(
            plain_judgments, [Run("r", dict.fromkeys(plain[:-1], plain))], parse_measures([text])
        ).runs
        assert found.means == expected.means


@pytest.mark.parametrize(
    "name", ["AP", "RR", "P", "R", "nDCG", "Success", "Rprec", "Bpref", "Judged", "IPrec", "Compat"]
)
def test_common_measures_are_computed(judged: Path, name: str) -> None:
    measures_ = {"P": "P@2", "R": "R@2", "Success": "Success@2", "IPrec": "IPrec@0.5"}.get(name, name)
    means, _ = ours(judged / "qrels.txt", judged / "after.trec", [measures_])
    assert 0 < means[str(parse_measures([measures_])[0])] <= 1


def test_all_providers_order_ties_alike(judged: Path) -> None:
    # ir_measures takes RR with a cut-off from MS MARCO's script, which puts the lesser of two ids first
    write(judged, {"ties.trec": "q1 Q0 d1 1 5 x\nq1 Q0 d2 2 5 x\n"})
    means, values = ours(judged / "qrels.txt", judged / "ties.trec", ["RR", "RR@10", "Judged@10"])
    assert values["RR"] == values["RR@10"] == {"q1": 1.0, "q2": 0.0, "q3": 0.0}
    assert means["RR"] == means["RR@10"] == pytest.approx(1 / 3)


def test_gains_apply_to_their_own_measure_only(judged: Path) -> None:
    measures_ = ["nDCG(gains={0:1,2:0})@10", "nDCG@10"]
    means, _ = ours(judged / "qrels.txt", judged / "before.trec", measures_)
    alone, _ = ours(judged / "qrels.txt", judged / "before.trec", measures_[1:])
    assert means["nDCG@10"] == alone["nDCG@10"]
    assert len(set(means.values())) == 2


def test_negative_grades_may_have_gains(judged: Path) -> None:
    write(judged, {"negative.txt": "q1 0 d1 -1\n"})
    means, _ = ours(judged / "negative.txt", judged / "before.trec", ["nDCG(gains={-1:2,0:1})", "nDCG", "P@1"])
    assert means == {"nDCG(gains={-1:2,0:1})": 1.0, "nDCG": 0.0, "P@1": 0.0}


def test_equal_scores_in_jsonl_are_ordered_by_their_ranks(judged: Path, lbr: Program) -> None:
    line = '{{"query_id":"q1","doc_id":"{}","rank":{},"score":0.5}}\n'
    write(judged, {"run.jsonl": line.format("d2", 2) + line.format("d1", 1)})
    assert read_run(str(judged / "run.jsonl")).rankings == {"q1": ["d1", "d2"]}
    write(
        judged,
        {"run.jsonl": '{"query_id":"q1","doc_id":"d1","score":0.5}\n{"query_id":"q1","doc_id":"d2","score":0.5}\n'},
    )
    assert read_run(str(judged / "run.jsonl")).rankings == {"q1": ["d2", "d1"]}


def test_all_output_formats_have_the_same_order(files: Path, lbr: Program) -> None:
    write(files, {"run.trec": "".join(f"q1 Q0 d{n} 1 {9 - n} x\nq2 Q0 d{n} 1 {n} x\n" for n in (1, 2, 3))})
    for name in ("a.trec", "a.jsonl", "a.tsv"):
        assert (
            lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", "--depth", "2", "-o", name).code == 0
        )
    orders = [read_run(str(files / name)).rankings for name in ("a.trec", "a.jsonl", "a.tsv")]
    assert orders[0] == orders[1] == orders[2]


def test_the_table_of_two_runs(judged: Path, lbr: Program) -> None:
    ended = lbr(*EVALUATE, "before.trec", "after.trec", "--measures", "nDCG@10 P@1, NumRet")
    assert ended.code == 0
    assert ended.err.splitlines() == [
        "lbr: warning: before.trec: 1 of 3 judged queries are missing, and count 0",
        "lbr: before.trec: queries without judgments, which are ignored: 1",
        "lbr: warning: after.trec: 1 of 3 judged queries are missing, and count 0",
    ]
    assert ended.out == (
        "measure   run            value   change        p   wins   ties   losses\n"
        "───────────────────────────────────────────────────────────────────────\n"
        "nDCG@10   before.trec   0.5436\n"
        "          after.trec    0.5436   0.0000   1.0000      1      1        1\n"
        "\n"
        "P@1       before.trec   0.3333\n"
        "          after.trec    0.3333   0.0000   1.0000      1      1        1\n"
        "\n"
        "NumRet    before.trec        3\n"
        "          after.trec         4       +1   0.4226      1      2        0\n"
        "\n"
        "change, p and wins: against before.trec; p of a paired t-test, queries: 3\n"
        "\n"
        "run           judged queries   missing   unjudged   judged in top 10\n"
        "────────────────────────────────────────────────────────────────────\n"
        "before.trec                3         1          1             100.0%\n"
        "after.trec                 3         1          0              75.0%\n"
    )


def test_the_table_of_one_run(judged: Path, lbr: Program) -> None:
    ended = lbr(*EVALUATE, "-", stdin=BEFORE.encode())
    assert ended.out.splitlines()[:3] == [
        "measure   run               value",
        "─────────────────────────────────",
        "nDCG@10   standard input   0.5436",
    ]


def test_json_tsv_and_markdown_have_the_same_values(judged: Path, lbr: Program) -> None:
    runs = ["before.trec", "after.trec", "before.trec", "--measures", "RR"]
    report = json.loads(lbr(*EVALUATE, *runs, "--format", "json").out)
    assert (report["queries"], report["measures"]) == (3, ["RR"])
    assert report["runs"][0] == {
        **{"run": "before.trec", "queries_missing": 1, "queries_unjudged": 1, "judged_in_top_10": 1.0},
        "measures": {"RR": {"value": 0.5}},
    }
    assert report["runs"][2]["measures"]["RR"] == {
        **{"value": 0.5, "change": 0.0, "p": 1.0, "p_holm": 1.0, "wins": 0, "ties": 3, "losses": 0}
    }
    assert lbr(*EVALUATE, *runs, "--format", "tsv").out == (
        "measure\trun\tvalue\tchange\tp\tp_holm\twins\tties\tlosses\n"
        "RR\tbefore.trec\t0.5\t\t\t\t\t\t\n"
        "RR\tafter.trec\t0.5\t0.0\t1.0\t1.0\t1\t1\t1\n"
        "RR\tbefore.trec\t0.5\t0.0\t1.0\t1.0\t0\t3\t0\n"
    )
    markdown = lbr(*EVALUATE, *runs, "--format", "markdown").out
    assert markdown.startswith("| measure | run | value | change | p | wins | ties | losses |\n| --- | --- | ---: |")
    assert "| RR | after.trec | 0.5000 | 0.0000 | 1.0000 | 1 | 1 | 1 |\n" in markdown
    assert "Holm's correction for 2 runs" in markdown


def test_values_of_each_query(judged: Path, lbr: Program) -> None:
    runs = ["before.trec", "after.trec", "--measures", "RR P@1"]
    assert lbr(*EVALUATE, *runs, "--per-query", "q.jsonl").code == 0
    lines = [json.loads(line) for line in (judged / "q.jsonl").read_text().splitlines()]
    assert lines[0] == {"run": "before.trec", "query_id": "q1", "RR": 0.5, "P@1": 0.0}
    assert [(line["run"], line["query_id"]) for line in lines] == [
        (run, query) for run in ("before.trec", "after.trec") for query in ("q1", "q2", "q3")
    ]
    assert lbr(*EVALUATE, *runs, "--per-query", "q.tsv.gz").code == 0
    table = gzip.decompress((judged / "q.tsv.gz").read_bytes()).decode().splitlines()
    assert table[:2] == ["run\tquery_id\tRR\tP@1", "before.trec\tq1\t0.5\t0.0"]
    ended = lbr(*EVALUATE, *runs, "--per-query", "q.csv")
    assert (ended.code, ended.err) == (2, "lbr: --per-query q.csv: unknown extension\nlbr: hint: use .jsonl or .tsv\n")


def test_a_plot_of_measures_over_their_cutoffs(judged: Path, lbr: Program) -> None:
    write(judged, {"$a_b$.trec": AFTER, "_x.trec": AFTER})
    runs = ["before.trec", "$a_b$.trec", "_x.trec"]
    warnings = [f"lbr: warning: {run}: 1 of 3 judged queries are missing, and count 0" for run in runs]
    assert lbr(*EVALUATE, *runs, "--plot", "p.png", "--quiet").err.splitlines() == warnings
    assert (judged / "p.png").read_bytes().startswith(b"\x89PNG")
    for name in ("p.svg", "q.svg"):
        assert lbr(*EVALUATE, *runs, "--measures", "nDCG@{1,2,9} RR P@1 IPrec@{0.1,0.5}", "--plot", name).code == 0
    drawn = (judged / "p.svg").read_text()
    assert drawn == (judged / "q.svg").read_text()
    texts = {text.strip() for text in re.findall(r">([^<>\n]+)</text>", drawn)}
    assert {"nDCG", "cut-off", "recall", "before.trec", "$a_b$.trec", "_x.trec", "2", "9"} <= texts
    assert "P" not in texts
    assert "RR" not in texts
    ended = lbr(*EVALUATE, *runs, "--measures", "AP P@1", "--plot", "p.svg")
    assert (ended.code, ended.err.splitlines()[0]) == (2, "lbr: --plot: no measure has more than one cut-off")
    assert lbr(*EVALUATE, *runs, "--plot", "p.png.gz").code == 2
    ended = lbr(*EVALUATE, *runs, "--plot", "p.pdf")
    assert ended.err == "lbr: --plot p.pdf: unknown extension\nlbr: hint: use .png or .svg\n"


def test_measures_are_written_as_in_ir_measures() -> None:
    texts = ["nDCG@{3,1}, P(rel=2)@5 AP", "SetF(beta=0.5)\tIPrec@0.1", "AP MAP", "nDCG(gains={0: 0, 1: 1})@10"]
    assert [str(measure) for measure in parse_measures(texts)] == [
        *("nDCG@1", "nDCG@3", "P(rel=2)@5", "AP", "SetF(beta=0.5)", "IPrec@0.1", "nDCG(gains={})@10")
    ]


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="ir_measures' own reader does not run on this Python")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "text", ["nDCG@10", "P(rel=2,judged_only=True)@5", "RBP(p=0.8)", "SetF(beta=0.5)", "IPrec@0.1"]
)
def test_measures_are_parsed_as_by_ir_measures(text: str) -> None:
    assert parse_measures([text]) == [ir_measures.parse_measure(text)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no measure"),
        ("ndcg@10", "unknown measure ndcg"),
        ("nDCG@ten", "no number after @"),
        ("nDCG@{1,'a'}", "no number after @"),
        ("nDCG@True", "no number after @"),
        ("nDCG@", "not a measure"),
        ("nDCG@0", "cutoff cannot be 0, it is a whole number from 1 to 1000000"),
        ("nDCG@1.5", "cutoff cannot be 1.5"),
        ("nDCG@99999999999999999999", "cutoff cannot be 99999999999999999999"),
        ("nDCG(gains={2:1.5})@10", "gains cannot be {2: 1.5}"),
        ("nDCG(gains={1:-3})@10", "gains cannot be {1: -3}"),
        ("nDCG(gains={[1]:2})@10", "invalid parameters in brackets"),
        ("Compat(p=-1)", "p cannot be -1.0, it is from 0 to 1"),
        ("Compat(p=1e999)", "p cannot be inf"),
        ("SetF(beta=-1)", "beta cannot be -1.0"),
        ("P@set()", "no number after @"),
        ("nDCG(gains={2:2000000000})@10", "gains cannot be {2: 2000000000}"),
        ("nDCG(dcg='exp-log2')@10", "unsupported measure"),
        ("IPrec@2", "recall cannot be 2.0"),
        ("IPrec@1e999", "recall cannot be inf"),
        ("P(rel=0)@5", "rel cannot be 0, it is a whole number from 1 to 10000"),
        ("P(rel=True)@5", "rel cannot be True"),
        ("P", "missing parameter cutoff: P@10"),
        ("BPM@10", "missing parameter max_rel: BPM(max_rel=…)"),
        ("P(cutoff=5)@10", "duplicate cutoff"),
        ("P(rel=1,rel=2)@5", "invalid parameters in brackets"),
        ("P(rel=2)(rel=3)@5", "not a measure"),
        ("P(2)@5", "invalid parameters in brackets"),
        ("P(rel=x)@5", "invalid parameters in brackets"),
        ("P(rel=open('x'))@5", "not a measure"),
        ("P(**{'rel': 1})@5", "invalid parameters in brackets"),
        ("P(level=2)@5", "P has no parameter level"),
        ("P(rel=2@5", "not a measure"),
        ("RBP", "unsupported measure"),
    ],
)
def test_invalid_measures_are_refused(judged: Path, text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=re.escape(reason)):
        ours(judged / "qrels.txt", judged / "before.trec", [text])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"qrels.txt": ""}, "qrels.txt: holds no judgments"),
        ({"qrels.txt": QRELS + "q1 1 d2 1\n"}, "qrels.txt:5: query q1, document d2: grade 1, but 2 in an earlier line"),
        (
            {"before.trec": BEFORE + "q1 Q0 d1 4 2 x\n"},
            "before.trec:5: query q1, document d1: duplicate pair, first at before.trec:1",
        ),
        ({"before.trec": "q1 Q0 d1 1 9 x\nq1 Q0 d1\n"}, "before.trec:2: a TREC run line has six fields"),
        ({"before.trec": "Q1 Q0 d1 1 9 x\n"}, "before.trec: none of 1 queries is judged in qrels.txt"),
        ({"before.trec": "# nothing\n"}, "before.trec: holds no candidates"),
    ],
)
def test_invalid_files_are_named(judged: Path, lbr: Program, files: dict[str, str], message: str) -> None:
    write(judged, dict(files))
    ended = lbr(*EVALUATE, "before.trec")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"lbr: {message}")


def test_a_run_of_other_documents_is_a_warning(judged: Path, lbr: Program) -> None:
    write(judged, {"other.trec": "q1 Q0 D1 1 9 x\n"})
    ended = lbr(*EVALUATE, "other.trec", "--quiet")
    assert ended.err.splitlines() == [
        "lbr: warning: other.trec: query q1: similar document ids do not match: 'd1' in qrels.txt and 'D1' in "
        "other.trec differ in upper and lower case",
        "lbr: warning: other.trec: 2 of 3 judged queries are missing, and count 0",
        "lbr: warning: other.trec: none of the documents in its top 10 is judged",
    ]


def test_only_one_input_can_be_stdin(judged: Path, lbr: Program) -> None:
    assert lbr(*EVALUATE, "-", "-").err == "lbr: only one input can be standard input\n"


def test_equal_duplicate_judgments_are_allowed(judged: Path) -> None:
    write(judged, {"twice.txt": QRELS + QRELS})
    assert read_judgments(str(judged / "twice.txt")) == read_judgments(str(judged / "qrels.txt"))


@pytest.mark.parametrize("width", [80, 40])
def test_numbers_are_not_truncated_on_a_narrow_terminal(judged: Path, width: int) -> None:
    evaluation = evaluate(
        read_judgments(str(judged / "qrels.txt")),
        [replace(read_run(str(judged / "before.trec")), name="a/long/" * 9 + name) for name in ("before", "after")],
        parse_measures(["nDCG(gains={1:1,2:3})@10"]),
    )
    text = as_table(evaluation, width, styled=False)
    for whole in ("nDCG(gains={2:3})@10", "0.5436", "0.0000", "1.0000", "judged queries", "judged in top 10", "100.0%"):
        assert whole in text


@pytest.mark.parametrize("output", ["--per-query", "--plot"])
def test_inputs_are_not_overwritten(judged: Path, lbr: Program, output: str) -> None:
    name = "run.tsv" if output == "--per-query" else "run.svg"
    write(judged, {name: "q1\td2\t1\n"})
    (judged / "link").symlink_to(name)
    for qrels, run, what in (
        ("qrels.txt", name, f"run {name}"),
        (name, "before.trec", f"qrels {name}"),
        ("qrels.txt", "link", "run link"),
    ):
        ended = lbr("evaluate", "--qrels", qrels, run, output, name)
        assert (ended.code, ended.err) == (2, f"lbr: {output} {name}: would overwrite the {what}\n")
    assert (judged / name).read_text() == "q1\td2\t1\n"


def test_standard_output_is_not_appended_to_an_input(judged: Path) -> None:
    command = f"exec {sys.executable} -m lbr_cli evaluate --qrels qrels.txt before.trec"
    for more, message in (
        (">> qrels.txt", "standard output: would overwrite the qrels qrels.txt"),
        ("--per-query q.tsv >> q.tsv", "standard output: the same file as --per-query q.tsv"),
    ):
        before = (judged / "qrels.txt").read_bytes()
        ended = subprocess.run(
            ["bash", "-c", f"{command} {more}"],
            cwd=judged,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", f"lbr: {message}\n")
        assert (judged / "qrels.txt").read_bytes() == before


def test_control_characters_in_names_of_runs_are_replaced(judged: Path, lbr: Program) -> None:
    name = "a\nb\x1b[2J\u202e.trec"
    (judged / "before.trec").rename(judged / name)
    ended = lbr("evaluate", "--qrels", "qrels.txt", name)
    assert ended.code == 0
    assert "a\ufffdb\ufffd[2J\ufffd.trec" in ended.out
    assert not set(ended.out + ended.err) & set("\x1b\u202e")


def test_outputs_are_opened_first_and_removed_after_an_error(judged: Path, lbr: Program) -> None:
    ended = lbr(*EVALUATE, "nowhere.trec", "--per-query", "no/q.tsv")
    assert ended.err == "lbr: no/q.tsv: cannot be written: No such file or directory\n"
    assert lbr(*EVALUATE, "nowhere.trec", "--per-query", "q.tsv").code == 2
    assert not list(judged.glob("*q.tsv*"))


def test_a_file_name_that_is_not_utf_8(judged: Path, lbr: Program) -> None:
    name = os.fsdecode(b"bad\xff\n.trec")
    (judged / name).write_text(BEFORE)
    for options in (
        ["--format", "json"],
        ["--per-query", "q.jsonl"],
        ["--per-query", "q.tsv"],
        ["--plot", "p.svg"],
        [],
    ):
        ended = lbr(*EVALUATE, name, *options)
        assert ended.code == 0, ended.err
        assert "bad\ufffd\ufffd.trec" in ended.out


def test_measures_without_quotes_are_an_error_with_a_hint(judged: Path, lbr: Program) -> None:
    ended = lbr(*EVALUATE, "before.trec", "--measures", "nDCG@1", "nDCG@3")
    assert ended.err == (
        'lbr: nDCG@3: file not found\nlbr: hint: several measures go into one --measures: "nDCG@10 RR"\n'
    )


@pytest.mark.parametrize(
    ("name", "meant"), [("map", "AP"), ("ndcg@10", "nDCG"), ("ndcg_cut_10", "nDCG"), ("recip_rank", "RR"), ("P_5", "P")]
)
def test_measure_names_of_other_tools_are_refused_with_a_hint(
    judged: Path, lbr: Program, name: str, meant: str
) -> None:
    hint = lbr(*EVALUATE, "before.trec", "--measures", name).err.splitlines()[1]
    assert hint == f"lbr: hint: ir_measures calls it {meant}, with @ before a cut-off"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--qrels", "before.trec", "qrels.txt"], "hint: this looks like a run"),
        (["--qrels", "qrels.txt", "qrels.txt"], "hint: lines of qrels have four fields; a TREC run has six fields"),
        (["--qrels", "q.jsonl", "before.trec"], "q.jsonl:1: no grade (relevance, rel, grade, label, judgment, score)"),
        (["--qrels", "beir.tsv", "before.trec"], "beir.tsv:1: the grade is not an integer of at most nine digits: 1.0"),
    ],
)
def test_files_of_another_kind_are_errors(judged: Path, lbr: Program, arguments: list[str], message: str) -> None:
    line = '{"query_id": "q1", "doc_id": "d1"}\n'
    write(judged, {"q.jsonl": line, "beir.tsv": "q1\td1\t1.0\nq1\td2\t1\n"})
    ended = lbr("evaluate", *arguments)
    assert ended.code == 2
    assert f"lbr: {message}" in ended.err


@pytest.mark.parametrize("package", ["ir_measures", "pytrec_eval", "scipy", "matplotlib"])
def test_a_missing_package_is_an_error(judged: Path, package: str) -> None:
    code = (
        "import importlib.util, sys\nfrom lbr_cli.commands import main\nthere = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, *rest: None if name == {package!r} else there(name, *rest)\n"
        "import lbr_cli.evaluation.measures as measures, lbr_cli.evaluation.plot as plot\n"
        "measures.find_spec = plot.find_spec = importlib.util.find_spec\n"
        "sys.argv = ['lbr', 'evaluate', '--qrels', 'qrels.txt', 'before.trec', '--plot', 'p.svg']\nmain()"
    )
    ended = python(code, judged)
    what = "--plot" if package == "matplotlib" else "evaluation"
    assert (ended.returncode, ended.stderr) == (
        2,
        f"lbr: {what} needs {package}, which is not installed\nlbr: hint: pip install 'lbr-cli[eval]'\n",
    )


def test_classes_that_python_3_14_removed_are_not_used(judged: Path) -> None:
    code = (
        "import ast\nfor name in ('Num', 'Str', 'Bytes', 'NameConstant', 'Ellipsis'):\n"
        "    ast.__dict__.pop(name, None)\n"
        "import sys\nfrom lbr_cli.commands import main\n"
        "sys.argv = ['lbr', 'evaluate', '--qrels', 'qrels.txt', 'before.trec', '--measures', 'P(rel=2)@{1,3}']\nmain()"
    )
    ended = python(code, judged)
    assert ended.stdout.splitlines()[2:4] == ["P(rel=2)@1   before.trec   0.0000", "P(rel=2)@3   before.trec   0.1111"]


def test_holm_equals_a_table_worked_by_hand() -> None:
    # 4 times 0.01, 3 times 0.02, 2 times 0.03, which is the same, and 0.04, no less than the one before
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_rejects_what_the_procedure_rejects(p_values: list[float]) -> None:
    corrected = holm(p_values)
    for level in (0.01, 0.05, 0.2):
        rejected: set[int] = set()
        for index in sorted(range(len(p_values)), key=p_values.__getitem__):
            if p_values[index] * (len(p_values) - len(rejected)) > level:
                break
            rejected.add(index)
        assert {index for index, p in enumerate(corrected) if p <= level} == rejected


def test_the_t_test_equals_the_textbook() -> None:
    first, other = [0.1, 0.4, 0.3, 0.9], [0.2, 0.4, 0.8, 0.7]
    differences = [b - a for a, b in zip(first, other, strict=True)]
    mean = sum(differences) / 4
    deviation = (sum((difference - mean) ** 2 for difference in differences) / 3) ** 0.5
    t = mean / (deviation / 2)
    assert paired_t_test(first, other) == pytest.approx(2 * scipy.stats.t.sf(abs(t), 3))
    assert paired_t_test([0.1], [0.2]) is None
    assert paired_t_test([0.1, 0.2], [0.1, 0.2]) == 1.0
    assert paired_t_test([0.1, 0.2, 0.3], [0.2, 0.3, 0.4]) is None  # the variance is 0


def test_similar_query_ids_are_a_warning(judged: Path, lbr: Program) -> None:
    write(judged, {"other.trec": BEFORE + "q2\u200b Q0 d1 1 9 x\n"})
    ended = lbr(*EVALUATE, "other.trec", "--quiet")
    warning = (
        "lbr: warning: other.trec: similar query ids do not match: 'q2' in qrels.txt and 'q2\\u200b' in other.trec "
        "differ in invisible or no-break characters"
    )
    assert ended.err.splitlines()[0] == warning
    write(judged, {"other.trec": "Q1 Q0 d1 1 9 x\n"})
    ended = lbr(*EVALUATE, "other.trec")
    assert ended.err.splitlines()[1].endswith(
        "; 'q1' in qrels.txt and 'Q1' in other.trec differ in upper and lower case"
    )


JSON_QRELS = {
    "one line": '{"q1": {"d1": 1, "d3": 0}, "q2": {"d2": 2}}',
    "pretty": json.dumps({"q1": {"d1": 1, "d3": 0}, "q2": {"d2": 2}}, indent=1),
    "carriage returns": json.dumps({"q1": {"d1": 1, "d3": 0}, "q2": {"d2": 2}}, indent=1).replace("\n", "\r"),
    "an array": '[{"qid":"q1","docid":"d1","rel":1},{"qid":"q1","docid":"d3","rel":0},'
    '{"qid":"q2","docid":"d2","rel":2}]',
    "cut off": '{"q1": {"d1": 1,\n"d3": 0}, "q2": {"d2": 2}}',
}


@pytest.mark.parametrize("name", JSON_QRELS)
@pytest.mark.parametrize("file", ["my qrels.json", "qrels.json.gz"])
def test_the_jq_command_for_json_judgments_works(judged: Path, lbr: Program, name: str, file: str) -> None:
    content = JSON_QRELS[name].encode()
    write(judged, {file: gzip.compress(content) if file.endswith(".gz") else content})
    ended = lbr("evaluate", "--qrels", file, "before.trec")
    error, hint = ended.err.splitlines()
    assert (ended.code, error) == (2, f"lbr: {file}:1: judgments are TREC, BEIR or JSONL, not other JSON")
    assert hint.startswith("lbr: hint: convert it: ")
    assert run_jq(judged, hint) == "q1 0 d1 1\nq1 0 d3 0\nq2 0 d2 2\n"


def test_the_jq_command_for_lists_of_documents_works(judged: Path, lbr: Program) -> None:
    write(judged, {"q.json": '{"q1": ["d1", "d3"], "q2": ["d2"]}'})
    hint = lbr("evaluate", "--qrels", "q.json", "before.trec").err.splitlines()[1]
    assert run_jq(judged, hint) == "q1 0 d1 1\nq1 0 d3 1\nq2 0 d2 1\n"
    write(judged, {"q.json": '{"q1": 5}'})
    ended = lbr("evaluate", "--qrels", "q.json", "before.trec")
    assert (
        ended.err
        == "lbr: q.json:1: no query id (query_id, qid, query-id, q_id, topic_id)\nlbr: hint: the line has q1\n"
    )


@pytest.mark.parametrize("indent", [None, 1])
def test_a_run_in_json_is_read(judged: Path, indent: int | None) -> None:
    write(judged, {"run.json": json.dumps({"q1": {"d1": 1.5, "d3": 1}, "q2": {"d2": 2}}, indent=indent)})
    assert read_run(str(judged / "run.json")).rankings == {"q1": ["d1", "d3"], "q2": ["d2"]}


def run_jq(folder: Path, hint: str) -> str:
    """Return the output of the command in a hint."""
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    command = hint.removeprefix("lbr: hint: convert it: ")
    return subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, check=True).stdout
