"""Data sets of ir_datasets: a run with a data set gives what the same texts in files give."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lbr_cli.commands import program
from lbr_cli.core import Document
from lbr_cli.datasets import load_dataset
from lbr_cli.errors import LbrError, RunError, UsageError
from lbr_cli.formats.fields import Fields
from support.files import DOCS, QUERIES, RUN, write
from support.program import Program, Result

QRELS = "q1 0 d2 1\nq2 0 d2 0\n"


class Hit(NamedTuple):
    query_id: str
    doc_id: str
    score: float


class Titled(NamedTuple):
    doc_id: str
    title: str
    text: str


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """Register a data set with these parts, and return its id. A lookup of documents that are not wanted fails."""
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path / "home"))
    ir_datasets = pytest.importorskip("ir_datasets")
    formats, registry = ir_datasets.formats, ir_datasets.util.Registry(allow_overwrite=True)
    monkeypatch.setattr(ir_datasets, "registry", registry)

    def add(
        documents: Any = None, queries: Any = None, scored: Any = None, qrels: str | None = None, name: str = "small"
    ) -> str:
        class Store(ir_datasets.indices.Docstore):  # type: ignore[misc]
            def get_many_iter(self, ids: Any) -> Iterator[Any]:
                return (document for document in documents if document.doc_id in set(ids))

        class Docs(formats.BaseDocs):  # type: ignore[misc]
            def docs_iter(self) -> Iterator[Any]:
                sys.stdout.write("a line on stdout\n")
                return iter(documents)

            def docs_cls(self) -> Any:
                return type(documents[0])

            def docs_store(self) -> Any:
                sys.stdout.write("a line on stdout\n")
                return Store(self.docs_cls())

        class Queries(formats.BaseQueries):  # type: ignore[misc]
            def queries_iter(self) -> Iterator[Any]:
                return iter(queries)

            def queries_cls(self) -> Any:
                return type(queries[0])

        class Scored(formats.BaseScoredDocs):  # type: ignore[misc]
            def scoreddocs_iter(self) -> Iterator[Any]:
                return iter(scored)

        class Qrels(formats.BaseQrels):  # type: ignore[misc]
            def qrels_iter(self) -> Iterator[Any]:
                for line in (qrels or "").splitlines():
                    query_id, _, doc_id, grade = line.split()
                    yield formats.GenericQrel(query_id, doc_id, int(grade))

            def qrels_defs(self) -> dict[int, str]:
                return {}

        given = ((documents, Docs), (queries, Queries), (scored, Scored), (qrels, Qrels))
        parts = [part() for value, part in given if value is not None]
        dataset_id = f"lbr-test/{name}"
        registry.register(dataset_id, ir_datasets.Dataset(*parts))
        return dataset_id

    return add


@pytest.fixture
def small(register: Callable[..., str]) -> str:
    """Return the data set with the same run, queries, documents and judgments as the files of the tests."""
    from ir_datasets.formats import GenericQuery

    documents = [
        Titled(record["_id"], record["title"], record["text"]) for record in map(json.loads, DOCS.splitlines())
    ]
    queries = [GenericQuery(*line.split("\t")) for line in QUERIES.splitlines()]
    scored = [Hit(fields[0], fields[2], float(fields[4])) for fields in map(str.split, RUN.splitlines())]
    return register(documents, queries, scored, QRELS)


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Program:
    """Run `lbr` in this process, which has the registered data sets."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        code, error_text = 0, ""
        try:
            program()([*arguments], prog_name="lbr", standalone_mode=False)
        except LbrError as error:
            code, error_text = error.exit_code, f"{error}\n{error.hint}"
        out, err = capsys.readouterr()
        return Result(code, out, err + error_text)

    return run


RERANK = ("rerank", "--engine", "overlap", "--quiet", "-o", "out")


def test_a_data_set_scores_like_the_same_files(files: Path, small: str, inside: Program) -> None:
    assert inside(*RERANK, "run.trec", "-c", "docs.jsonl").code == 0
    expected = (files / "out").read_text()
    (files / "queries.tsv").unlink()
    for arguments in (["--dataset", small], ["run.trec", "--dataset", small]):
        ended = inside(*RERANK, *arguments)
        assert (ended.code, ended.out) == (0, "")  # ir_datasets prints on stderr
        assert (files / "out").read_text() == expected


def test_files_replace_parts_of_a_data_set(files: Path, small: str, inside: Program) -> None:
    write(files, {"other.tsv": "q1\tlisbon\nq2\tripe\n", "other.jsonl": DOCS.replace("Lisbon", "Porto")})
    for queries, corpus in (("other.tsv", "docs.jsonl"), ("queries.tsv", "other.jsonl")):
        replaced = ["-q", queries, "-c", corpus]
        part = replaced[:2] if queries == "other.tsv" else replaced[2:]
        assert inside(*RERANK, "run.trec", *replaced).code == 0
        expected = (files / "out").read_text()
        assert inside(*RERANK, "--dataset", small, *part).code == 0
        assert (files / "out").read_text() == expected
    ended = inside(*RERANK, "run.trec", "--dataset", small, "-c", "docs.jsonl", "-q", "queries.tsv")
    assert ended.err.startswith("--dataset has no effect: RUN, --corpus and --queries name all its parts\n")


def test_evaluate_and_report_read_judgments_and_texts(files: Path, small: str, inside: Program) -> None:
    write(files, {"qrels": QRELS})
    table = inside("evaluate", "run.trec", "--qrels", "qrels", "--quiet")
    assert (table.code, inside("evaluate", "run.trec", "--dataset", small, "--quiet").out) == (0, table.out)
    assert inside("evaluate", "run.trec").err.startswith("no judgments\n")
    both = inside("evaluate", "run.trec", "--qrels", "qrels", "--dataset", small)
    assert both.err.startswith("--dataset has no effect: --qrels has the judgments\n")
    page = ("report", "run.trec", "run.trec", "--quiet", "-o", "page.html")
    assert inside(*page, "--qrels", "qrels", "-c", "docs.jsonl").code == 0
    expected = (files / "page.html").read_text()
    assert inside(*page, "--dataset", small).code == 0
    assert (files / "page.html").read_text() == expected


def test_the_manifest_names_the_data_set(files: Path, small: str, inside: Program) -> None:
    import ir_datasets

    assert inside(*RERANK, "--dataset", small, "--manifest", "m.json").code == 0
    manifest = json.loads((files / "m.json").read_text())
    assert manifest["inputs"] == [{"dataset": small, "ir_datasets": ir_datasets.__version__}]
    assert (manifest["options"]["dataset"], manifest["options"].get("run")) == (small, None)


def test_missing_documents_of_a_data_set(files: Path, small: str, inside: Program) -> None:
    write(files, {"run.trec": RUN + "q2 Q0 d9 2 1.0 x\n", "none.trec": "q1 Q0 x 1 1 t\n"})
    ended = inside(*RERANK, "run.trec", "--dataset", small)
    assert ended.code == 2
    assert f"run.trec:4: 1 of 3 documents are not in {small} (1 pairs): d9 (line 4)\n" in ended.err
    assert inside(*RERANK, "run.trec", "--dataset", small, "--missing-docs", "last").code == 0
    ended = inside(*RERANK, "none.trec", "--dataset", small)
    assert f"none.trec: 0 of 1 documents found in {small}\nthe run has x; {small} has d1, d2, d3" in ended.err
    write(files, {"none.trec": "x Q0 d1 1 1 t\n"})
    ended = inside(*RERANK, "none.trec", "--dataset", small)
    assert f"none.trec: 0 of 1 queries found in {small}\nthe run has x; {small} has q1, q2" in ended.err


@pytest.mark.parametrize(
    ("part", "arguments", "hint"),
    [
        ("docs", ["run.trec", "-q", "queries.tsv"], "name the corpus with --corpus"),
        ("queries", ["run.trec", "-c", "docs.jsonl"], "name the queries with --queries"),
        ("scoreddocs", [], "name a run, or - for standard input"),
    ],
)
def test_missing_parts_are_errors(
    files: Path, register: Callable[..., str], inside: Program, part: str, arguments: list[str], hint: str
) -> None:
    name = register(qrels=QRELS)
    ended = inside(*RERANK, "--dataset", name, *arguments)
    assert (ended.code, ended.err) == (2, f"--dataset {name}: no {part}; it has qrels\n{hint}")


def test_unknown_data_sets_and_fields_are_errors(small: str, inside: Program) -> None:
    ended = inside(*RERANK, "--dataset", "lbr-test/none")
    assert (ended.code, ended.err.splitlines()[0]) == (2, "--dataset lbr-test/none: unknown data set")
    ended = inside(*RERANK, "--dataset", small, "--text-field", "body")
    expected = f"--text-field body: no such field\nthe documents of {small} have doc_id, title, text"
    assert (ended.code, ended.err.endswith(expected)) == (2, True)
    assert inside(*RERANK, "--dataset", small, "--id-field", "x").err.startswith("--id-field has no effect")


def test_without_ir_datasets_a_data_set_is_an_error(
    small: str, inside: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    ended = inside(*RERANK, "--dataset", small)
    assert (ended.code, ended.err) == (
        2, f"--dataset {small}: ir_datasets is not installed\npip install 'lbr-cli[datasets]'"
    )  # fmt: skip


class Described(NamedTuple):
    doc_id: str
    title: str
    headings: str
    body: str

    def default_text(self) -> str:
        return f"{self.title} {self.headings} {self.body}"


class Plain(NamedTuple):
    doc_id: str
    url: str
    body: str


@pytest.mark.parametrize(
    ("record", "fields", "expected"),
    [
        (Described("a", "t", "h", "b"), Fields(), Document("a", "h b", "t")),
        (Described("a", "", "h", "b"), Fields(), Document("a", " h b")),
        (Described("a", "t", "h", "b"), Fields(text_field="body"), Document("a", "b", "t")),
        (Described("a", "t", "h", "b"), Fields(title_field="body"), Document("a", "t h b", "b")),
        (Plain("a", "u", "b"), Fields(), Document("a", "b")),
        (Titled("a", "t", "x"), Fields(), Document("a", "x", "t")),
        (Titled("a", None, "x"), Fields(), Document("a", "x")),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_texts_of_documents_of_all_types(
    register: Callable[..., str], record: Any, fields: Fields, expected: Document
) -> None:
    assert load_dataset(register([record])).documents({"a"}, fields) == {"a": expected}


def test_failed_downloads_are_run_errors(register: Callable[..., str]) -> None:
    def failing() -> Iterator[Hit]:
        yield Hit("q", "d", float("nan"))
        raise ConnectionError("no route to host")

    lines = load_dataset(register(scored=failing())).candidates()
    assert next(lines).candidate.score is None
    with pytest.raises(RunError, match="cannot be read: no route to host"):
        next(lines)

    def asking() -> Iterator[Hit]:
        input("password: ")
        yield Hit("q", "d", 1.0)

    with pytest.raises(UsageError, match="needs a user name and a password"):
        list(load_dataset(register(scored=asking(), name="closed")).candidates())
