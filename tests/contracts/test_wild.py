"""Files as found in the wild are read correctly, or refused with a reason and a hint."""

from __future__ import annotations

from pathlib import Path

import pytest

from lbr_cli.errors import InputError
from lbr_cli.formats import parse_run
from lbr_cli.formats.corpus import WantedDocuments, read_corpus
from lbr_cli.formats.fields import Fields
from lbr_cli.formats.input_files import InputFiles
from lbr_cli.formats.qrels import Qrel, read_qrels
from lbr_cli.formats.queries import read_queries


class Everything:
    """Contains every document id."""

    def __contains__(self, _: object) -> bool:
        return True


def corpus(path: Path) -> WantedDocuments:
    texts = WantedDocuments(Everything())

    def bad(error: InputError) -> None:
        raise error

    read_corpus(InputFiles().open(str(path)), texts, Fields(), lambda _: None, bad)
    return texts


def qrels(path: str) -> list[Qrel]:
    return [qrel for _, qrel in read_qrels(InputFiles().open(path))]


# name: format, queries, lines, first pair, score or rank of the first pair
RUNS = {
    "results.test": ("trec", 3, 1500, ("301", "FR940202-2-00150"), None),
    "results.trunc": ("trec", 2, 584, None, None),
    "anserini.run1": ("trec", 2, 6, None, None),
    "anserini.run3": ("trec", 2, 6, None, None),
    "anserini.run4": ("trec", 2, 4, None, None),
    "anserini.run_same_scores": ("trec", 2, 5, None, None),
    "anserini.run_mixed_scores": ("trec", 2, 6, None, None),
    "anserini.cacm-bm25.txt": ("trec", 64, None, None, None),
    "pyterrier.two_queries_result": ("trec", 2, None, None, None),
    "ranx.run.trec": ("trec", 2, 5, ("q1", "d3"), None),
    "ranx.run.json": ("json", 2, 5, ("q1", "d3"), 0.3),
    "ranx.run.trec.gz": ("trec", 2, 5, ("q1", "d3"), None),
    "lightning-ir.run.tsv": ("trec", None, None, ("query_id_1", "doc_id_1"), -1.0),
    "lightning-ir.rerank.jsonl": ("jsonl", None, None, ("5", "1"), None),
    "trectools.uic0301_top30": ("trec", None, None, None, None),
    "trectools.r4.run": ("trec", None, None, None, None),
}


@pytest.mark.parametrize("name", RUNS)
def test_runs_are_read(data: Path, name: str) -> None:
    format_name, queries, count, first, score = RUNS[name]
    path = data / "wild" / name
    format_, lines = parse_run(InputFiles().open(str(path)))
    read = list(lines)
    assert format_.name == format_name
    if not name.endswith((".gz", ".json")):
        written = [line for line in path.read_text().split("\n") if line.strip()]
        assert len(read) == len(written)
        if format_name == "trec":
            fields = [line.split() for line in written]
            assert [(line.query.query_id, line.candidate.doc_id) for line in read] == [(f[0], f[2]) for f in fields]
            assert [line.candidate.score for line in read] == [float(f[4]) for f in fields]
    assert count in (None, len(read))
    assert queries in (None, len({line.query.query_id for line in read}))
    assert first in (None, (read[0].query.query_id, read[0].candidate.doc_id))
    assert score in (None, read[0].candidate.score)


QUERIES = {
    "topics.robust04.txt": (250, "301", "International Organized Crime"),
    "topics.adhoc.51-100.txt": (50, "051", "Airbus Subsidies"),
    "topics.covid-round1.xml": (30, "1", "coronavirus origin"),
    "topics.web.251-300.txt": (50, "251", "identifying spider bites"),
    "topics.trec02ar-ar.txt": (50, "AR26", "مجلس المقاومة الوطني الكردستاني"),
    "anserini.topics.Trec": (1, "001", "simple text"),
    "pyterrier.topics.trec": (3, "1", "light"),
    "pyterrier.topics.trecxml": (3, "1", "lights"),
    "pyterrier.singleline.topics": (2, "1", "one"),
    "pyserini.queries_nonint_qid.tsv": (3, None, None),
    "pyserini.queries_zh.tsv": (2, None, None),
    "lightning-ir.queries.tsv": (2, "query_id_1", "what is the capital of france?"),
    "ir_datasets.queries.tsv": (None, "1", "republican party"),
    "dbpedia-entity.queries-v2.txt": (467, None, None),
    "kazqad.topics.tsv": (None, "bio0059bio", "Энергетикалық алмасу дегеніміз не?"),
}


@pytest.mark.parametrize("name", QUERIES)
def test_queries_are_read(data: Path, name: str) -> None:
    count, query_id, text = QUERIES[name]
    read = read_queries(InputFiles().open(str(data / "wild" / name)))
    assert count in (None, len(read))
    if query_id is not None:
        assert next(iter(read)) == query_id
        assert read[query_id].query.text == text
    assert all(line.query.text for line in read.values())


CORPORA = {
    "pyserini.documents.jsonl",
    "pyserini.documents_zh.jsonl",
    "pyserini.emoji_doc.json",
    "lightning-ir.docs.tsv",
}


@pytest.mark.parametrize("name", sorted(CORPORA))
def test_corpora_are_read(data: Path, name: str) -> None:
    path = data / "wild" / name
    documents = corpus(path).documents
    assert len(documents) == len(path.read_text(encoding="utf-8").strip().split("\n"))
    assert all(document.text for document in documents.values())
    if "emoji" in name:
        assert "😋" in documents["doc1"].text


# name: judgments, smallest and largest grade
QRELS = {
    "qrels.test": (None, 0, 1),
    "qrels.test.with-comments": (None, 0, 1),
    "qrels.rel_level": (None, -1, 4),
    "anserini.qrels.cacm.txt": (None, 1, 1),
    "qrels.covid-round1.txt": (None, 0, 2),
    "pyserini.nfcorpus-qrels.tsv": (None, 1, 2),
    "pyterrier.qrels": (None, None, None),
    "ranx.qrels.trec.gz": (5, None, None),
    "lightning-ir.qrels.tsv": (None, None, None),
    "trectools.qrel1.txt": (None, None, None),
    "ir_datasets.qrels": (None, None, None),
    "kazqad.qrels.tsv": (None, None, None),
    "beir.scifact.qrels.test.tsv": (None, 1, 1),
}


@pytest.mark.parametrize("name", QRELS)
def test_qrels_are_read(data: Path, name: str) -> None:
    count, least, most = QRELS[name]
    path = data / "wild" / name
    read = qrels(str(path))
    grades = [qrel.relevance for qrel in read]
    assert count in (None, len(read))
    assert least in (None, min(grades))
    assert most in (None, max(grades))
    if not name.endswith((".gz", ".json")):
        lines = [line.split() for line in path.read_text().split("\n") if line.strip() and not line.startswith("#")]
        lines = lines[1:] if name.startswith("beir") else lines
        assert [(qrel.query_id, qrel.doc_id, qrel.relevance) for qrel in read] == [
            (fields[0], fields[-2], int(fields[-1])) for fields in lines
        ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[q1] 0 d1 1\n", [("[q1]", "d1", 1)]),
        ("#q\td\tg\nq1 0 d1 1\n", [("q1", "d1", 1)]),
        ("query\tdoc\tscore\nq 1\td 1\t-2\n", [("q 1", "d 1", -2)]),
        ("q1\td1\t2\n", [("q1", "d1", 2)]),
        ("", []),
    ],
)
def test_judgments_equal_those_written_by_hand(
    tmp_path: Path, content: str, expected: list[tuple[str, str, int]]
) -> None:
    (tmp_path / "qrels").write_text(content)
    assert qrels(str(tmp_path / "qrels")) == expected


@pytest.mark.parametrize("line", ["q1 0 d1", "q1 0 d1 1 x", "q1 0 d1 1.5"])
def test_an_invalid_judgment_is_an_error(tmp_path: Path, line: str) -> None:
    (tmp_path / "qrels").write_text(f"q1 0 d0 1\n{line}\n")
    with pytest.raises(InputError, match=r"qrels:2: "):
        qrels(str(tmp_path / "qrels"))


def test_document_ids_may_contain_a_hash(data: Path) -> None:
    assert any("#" in qrel.doc_id for qrel in qrels(str(data / "wild" / "qrels.test.with-comments")))


# name: reader, line of the error, part of the message, part of the hint
REFUSED = {
    "pyterrier.light_results": ("run", 1, "unknown format: this line has 3 fields", "six fields"),
    "ranx.qrels.json": (
        "qrels",
        1,
        "judgments are TREC, BEIR or JSONL, not other JSON",
        "jq -r 'to_entries[] | .key as $q",
    ),
    "pyserini.documents_array.json": ("corpus", 1, "not JSONL", "jq -c '.[]' /"),
    "anserini.contents_missing.json": ("corpus", 1, "not JSONL", "jq -c '.[]'"),
    "anserini.id_missing.json": ("corpus", 1, "not JSONL", "jq -c '.[]'"),
    "anserini.topics.bglinking.txt": ("queries", 1, "topic 321 has no title", "--topic-field"),
    "codesearchnet.queries.csv": ("queries", 1, "a query line is an id, a tab or blank and the text", ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unsupported_files_are_refused_with_a_hint(data: Path, name: str) -> None:
    kind, line, message, hint = REFUSED[name]
    path = str(data / "wild" / name)
    read = {
        "run": lambda p: list(parse_run(InputFiles().open(p))[1]),
        "qrels": qrels,
        "queries": lambda p: read_queries(InputFiles().open(p)),
        "corpus": lambda p: corpus(Path(p)),
    }
    with pytest.raises(InputError) as error:
        read[kind](path)
    assert str(error.value).startswith(f"{path}:{line}: {message}")
    assert hint in error.value.hint


def test_every_file_is_tested(data: Path) -> None:
    there = {path.name for path in (data / "wild").iterdir() if not path.name.startswith(".")}
    others = {"SOURCE.md", "LICENSE.trec_eval.md", "out.test", "out.test.aqc"}  # output of trec_eval is not input
    assert there == {*RUNS, *QUERIES, *CORPORA, *QRELS, *REFUSED, *others}
