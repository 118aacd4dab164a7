"""Query files, and where they are searched for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbr_cli.errors import InputError, UsageError
from lbr_cli.formats.input_files import InputFiles
from lbr_cli.formats.queries import read_queries
from support.files import DOCS, QUERIES, RUN, write
from support.program import Program


def texts(path: Path, content: str) -> dict[str, str | None]:
    write(path, {"q": content})
    return {query_id: line.query.text for query_id, line in read_queries(InputFiles().open(str(path / "q"))).items()}


@pytest.mark.parametrize("id_key", ["_id", "id", "query_id", "qid"])
@pytest.mark.parametrize("text_key", ["text", "query"])
def test_jsonl_queries_are_read(tmp_path: Path, id_key: str, text_key: str) -> None:
    assert texts(tmp_path, json.dumps({id_key: 51, text_key: "a\tb"})) == {"51": "a\tb"}


def test_tsv_queries_are_read(tmp_path: Path) -> None:
    assert texts(tmp_path, "051\tripe figs\r\n51\tR&D\tunit\n\nx\t") == {"051": "ripe figs", "51": "R&D\tunit", "x": ""}


def test_lines_without_tabs_are_an_id_a_blank_and_a_text(tmp_path: Path) -> None:
    assert texts(tmp_path, "1 one\n2 two words") == {"1": "one", "2": "two words"}
    with pytest.raises(InputError, match="an id, a tab or blank and the text; this line has no tab or blank"):
        texts(tmp_path, "query\n")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("q2 no tab", "q:2: a query line is an id, a tab and the text; this line has no tab"),
        ("q1\tb", "q:2: query q1 has another text at "),
    ],
)
def test_invalid_tsv_lines_are_errors(tmp_path: Path, line: str, problem: str) -> None:
    with pytest.raises(InputError) as error:
        texts(tmp_path, f"q1\ta\n{line}\n")
    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"text": "x"}, "no query id (_id, id, query_id, qid)"),
        ({"_id": "x"}, "no query text (text, query)"),
        ({"_id": None, "text": "x"}, '"_id" has to be a string or a 64-bit integer, this is null'),
        ({"_id": "x", "text": 3}, '"text" has to be a string, this is an integer'),
    ],
)
def test_invalid_jsonl_lines_are_errors(tmp_path: Path, record: Any, problem: str) -> None:
    with pytest.raises(InputError) as error:
        texts(tmp_path, json.dumps({"_id": "q1", "text": "x"}) + "\n" + json.dumps(record))
    assert str(error.value) == f"{tmp_path}/q:2: {problem}"


def test_queries_beside_the_run_are_found_with_a_note(files: Path, lbr: Program) -> None:
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap")
    assert ended.code == 0
    assert ended.err.splitlines()[0] == "lbr: queries: queries.tsv"


def test_queries_beside_the_corpus_are_found(tmp_path: Path, lbr: Program) -> None:
    (tmp_path / "data [1]").mkdir()
    write(tmp_path, {"run.trec": RUN})
    write(tmp_path / "data [1]", {"docs.jsonl": DOCS, "topics.tsv": QUERIES})
    ended = lbr("rerank", "run.trec", "-c", "data [1]/docs.jsonl", "--engine", "overlap")
    assert ended.err.splitlines()[0] == "lbr: queries: data [1]/topics.tsv"


def test_several_queries_files_are_an_error(files: Path, lbr: Program) -> None:
    write(files, {"topics.jsonl": ""})
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "lbr: several files may hold the queries: queries.tsv, topics.jsonl\nlbr: hint: name one with --queries\n"
    )


def test_no_queries_file_is_an_error(files: Path, lbr: Program) -> None:
    (files / "queries.tsv").unlink()
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "lbr: run.trec has no query texts, and there is no file queries.* or topics.* beside it\n"
        "lbr: hint: name the queries with --queries\n"
    )


STANDARD = "q1\tripe fig\tIs a fig ripe?\tNot bread.\nq2\ttram\tWhich tram?\tGauges.\n"
COLUMNS = ["rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", "--quiet"]


def query_texts(
    path: Path, content: str, field: str | None = None, columns: str | None = None
) -> tuple[list[str], list[str]]:
    """Return the texts of the queries, and the warnings."""
    write(path, {"q": content})
    warnings: list[str] = []
    names = tuple(columns.split(",")) if columns else None
    lines = read_queries(InputFiles().open(str(path / "q")), field, columns=names, warn=warnings.append)
    return [line.query.text or "" for line in lines.values()], warnings


def test_columns_of_trec_queries(tmp_path: Path) -> None:
    warning = (
        f"{tmp_path}/q: 4 columns; the query is column 2, the title, and columns 3 to 4 are not read; choose with "
        "--topic-field or --query-columns"
    )
    assert query_texts(tmp_path, STANDARD) == (["ripe fig", "tram"], [warning])
    assert query_texts(tmp_path, STANDARD, "title") == (["ripe fig", "tram"], [])
    assert query_texts(tmp_path, STANDARD, "description") == (["Is a fig ripe?", "Which tram?"], [])
    assert query_texts(tmp_path, STANDARD, "narrative") == (["Not bread.", "Gauges."], [])
    three = "".join(line.rsplit("\t", 1)[0] + "\n" for line in STANDARD.splitlines())
    assert query_texts(tmp_path, three, "description") == (["Is a fig ripe?", "Which tram?"], [])
    with pytest.raises(UsageError) as error:
        query_texts(tmp_path, three, "narrative")
    assert str(error.value) == f"{tmp_path}/q has no column narrative"
    assert error.value.hint == "the columns are id, title, description; choose one with --topic-field"
    five = STANDARD.replace("\n", "\tmore\n")
    assert query_texts(tmp_path, five)[0] == ["ripe fig", "tram"]


def test_columns_are_chosen_by_name(tmp_path: Path) -> None:
    assert query_texts(tmp_path, STANDARD, columns="id,x,query,y") == (["Is a fig ripe?", "Which tram?"], [])
    assert query_texts(tmp_path, STANDARD, "y", "id,x,query,y") == (["Not bread.", "Gauges."], [])
    assert query_texts(tmp_path, "ripe\tq1\n", columns="text,id") == (["ripe"], [])
    # the last column takes the rest of the line
    assert query_texts(tmp_path, STANDARD, columns="id,text")[0][0] == "ripe fig\tIs a fig ripe?\tNot bread."
    with pytest.raises(UsageError, match="q has no column title"):
        query_texts(tmp_path, STANDARD, columns="id,a,b,c")
    with pytest.raises(InputError, match=r"q:1: a line has 5 tab-separated fields \(id, a, b, c, text\)"):
        query_texts(tmp_path, STANDARD, columns="id,a,b,c,text")


def test_texts_with_tabs_are_not_split(tmp_path: Path) -> None:
    texts, warnings = query_texts(tmp_path, "q1\tripe\nq2\ta\ttram\tgauge\n")
    assert texts == ["ripe", "a\ttram\tgauge"]
    assert warnings == [
        f"{tmp_path}/q:2: 1 of 2 lines have more than two columns, which are joined into one query text; name the "
        "columns with --query-columns"
    ]
    with pytest.raises(UsageError, match=r"--topic-field has no effect: the lines of .* have different .* \(2, 4\)"):
        query_texts(tmp_path, "q1\tripe\nq2\ta\ttram\tgauge\n", "title")


COLUMN = st.text(st.characters(exclude_characters="\t\n\r", exclude_categories=["Cs"]), min_size=1)


@given(
    st.lists(
        st.lists(COLUMN, min_size=3, max_size=3),
        min_size=1,
        unique_by=lambda row: row[0],
    )
)
def test_every_column_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    rows = [[f"q{row[0]}", *row[1:]] for row in rows]
    content = "".join("\t".join(row) + "\n" for row in rows)
    folder = tmp_path_factory.mktemp("columns")
    for field, index in (("title", 1), ("description", 2)):
        assert query_texts(folder, content, field) == ([row[index] for row in rows], [])


def test_topic_field_names_a_key_of_jsonl(files: Path, lbr: Program) -> None:
    (files / "queries.tsv").unlink()
    write(files, {"q.jsonl": '{"_id":"q1","text":"x","n":"bread salt"}\n{"_id":"q2","text":"x"}\n{"_id":"q9"}\n'})
    write(files, {"run.trec": "q1 Q0 d2 1 2 x\nq1 Q0 d3 2 1 x\n"})
    ended = lbr(*COLUMNS, "-q", "q.jsonl", "--topic-field", "n")
    assert (ended.code, ended.out.splitlines()[0], ended.err) == (0, "q1 Q0 d3 1 1 lbr-overlap", "")
    write(files, {"run.trec": "q2 Q0 d2 1 2 x\n"})
    ended = lbr(*COLUMNS, "-q", "q.jsonl", "--topic-field", "n")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "lbr: q.jsonl:2: no query text (n)\nlbr: hint: name the key with --topic-field; the line has text\n"
    )


@pytest.mark.parametrize(
    ("content", "option", "message"),
    [
        (QUERIES, ["--topic-field", "title"], "--topic-field has no effect: q has two columns, an id and a text"),
        ("q1 a\nq2 b\n", ["--topic-field", "x"], "--topic-field has no effect: q has two columns, an id and a text"),
        ('{"_id":"q1","text":"a"}\n', ["--query-columns", "id,text"], "--query-columns has no effect: q is not TSV"),
        ("<top><num>q1<title>a</top>", ["--query-columns", "id,x"], "--query-columns has no effect: q is not TSV"),
        (QUERIES, ["--query-columns", "text"], "--query-columns text: needs id once, and each other name once"),
        (QUERIES, ["--query-columns", "id,a,a"], "--query-columns id,a,a: needs id once, and each other name once"),
    ],
)
@pytest.mark.parametrize("command", [COLUMNS, ["report", "run.trec", "run.trec", "-o", "page.html"]])
def test_options_without_effect_are_errors(
    files: Path, lbr: Program, command: list[str], content: str, option: list[str], message: str
) -> None:
    write(files, {"q": content})
    ended = lbr(*command, "-q", "q", *option)
    assert (ended.code, ended.out, ended.err) == (2, "", f"lbr: {message}\n")


def test_reports_read_the_same_field(files: Path, lbr: Program) -> None:
    write(files, {"queries.tsv": STANDARD})
    command = ["report", "run.trec", "run.trec", "-o", "-", "--quiet"]
    ended = lbr(*command, "--topic-field", "description")
    assert (ended.code, ended.err) == (0, "")
    assert "Is a fig ripe?" in ended.out
    (files / "queries.tsv").unlink()
    assert lbr(*command, "--topic-field", "x").err == "lbr: --topic-field has no effect: no queries file is read\n"
