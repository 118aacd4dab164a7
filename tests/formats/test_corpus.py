"""Corpora: fields, invalid lines, and the documents that are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lbr_cli.core import Document
from lbr_cli.errors import InputError
from lbr_cli.formats.corpus import WantedDocuments, read_corpus
from lbr_cli.formats.fields import Fields
from lbr_cli.formats.input_files import InputFiles
from support.files import write
from support.program import Program

ANY = Fields()


def read(path: Path, content: str | bytes, fields: Fields = ANY, **wanted: None) -> tuple[WantedDocuments, list[str]]:
    write(path, {"c": content})
    texts, notes = WantedDocuments(wanted or {"d1": None, "d2": None}), list[str]()

    def bad(error: InputError) -> None:
        raise error

    read_corpus(InputFiles().open(str(path / "c")), texts, fields, notes.append, bad)
    return texts, notes


def lines(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


@pytest.mark.parametrize("id_key", ["_id", "id", "doc_id", "docno", "pid", "docid"])
@pytest.mark.parametrize("text_key", ["text", "contents", "body", "passage", "segment", "content"])
def test_common_fields_are_read(tmp_path: Path, id_key: str, text_key: str) -> None:
    texts, notes = read(tmp_path, lines({id_key: "d1", text_key: "x", "title": "t"}))
    assert (texts.documents, notes) == ({"d1": Document("d1", "x", "t")}, [])


def test_a_choice_between_fields_is_a_note(tmp_path: Path) -> None:
    texts, notes = read(
        tmp_path, lines({"id": 9, "_id": "d1", "text": "x", "body": "y"}, {"_id": "d2", "id": 1, "text": ""})
    )
    assert texts.documents == {"d1": Document("d1", "x"), "d2": Document("d2", "")}
    assert notes == [
        f'{tmp_path}/c: ids are taken from "_id", not from id',
        f'{tmp_path}/c: texts are taken from "text", not from body',
    ]


@pytest.mark.parametrize("title", ["t", None, ""])
def test_lines_may_use_different_fields(title: str | None, tmp_path: Path) -> None:
    """The first name of the list that a line has is used, also if the line before it had another."""
    records: list[dict[str, Any]] = [
        {"pid": "d1", "body": "x"},
        {"pid": "no", "_id": "d2", "body": "no", "text": "y"},
        {"docid": "d3", "pid": "d3b", "content": "z", "body": "w"},
        {"id": 4, "content": "v"},
        {"id": "d5", "content": "no", "contents": "u"},
    ]
    records = [record | {"title": title} for record in records]
    ids = dict.fromkeys(["no", "d1", "d2", "d3", "d3b", "4", "d5"])
    texts, _ = read(tmp_path, lines(*records, *records[::-1]), **ids)
    found = {doc_id: (document.text, document.title) for doc_id, document in texts.documents.items()}
    expected = {"d1": "x", "d2": "y", "d3b": "w", "4": "v", "d5": "u"}
    assert found == {doc_id: (text, title or "") for doc_id, text in expected.items()}


def test_only_wanted_documents_are_kept(tmp_path: Path) -> None:
    texts, _ = read(tmp_path, lines(*({"_id": i, "text": "x"} for i in range(50))), **{"7": None})
    assert list(texts.documents) == ["7"]
    assert texts.sample == ["0", "1", "2"]


def test_integer_ids_become_digits_and_other_types_are_errors(tmp_path: Path) -> None:
    texts, _ = read(tmp_path, lines({"_id": 18446744073709551615, "text": "x"}), **{"18446744073709551615": None})
    assert len(texts.documents) == 1
    for value in (1.0, True, None, [1], 2**64):
        with pytest.raises(InputError, match=r'c:1: "_id" has to be a string or a 64-bit integer, this is '):
            read(tmp_path, lines({"_id": value, "text": "x"}))


def test_a_duplicate_document_with_another_text_is_an_error(tmp_path: Path) -> None:
    same = {"_id": "d1", "text": "x"}
    assert len(read(tmp_path, lines(same, same))[0].documents) == 1
    with pytest.raises(InputError) as error:
        read(tmp_path, lines(same, {"_id": "d2", "text": ""}, {"_id": "d1", "text": "y"}))
    assert str(error.value) == f"{tmp_path}/c:3: document d1 has another text at {tmp_path}/c:1"


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"text": "x"}, "no document id (_id, id, doc_id, docno, pid, docid)"),
        ({"_id": "z"}, "no text (text, contents, body, passage, segment, content)"),
        ({"_id": "z", "text": None}, '"text" has to be a string, this is null'),
        ({"_id": "z", "text": ["x"]}, '"text" has to be a string, this is an array'),
        ({"_id": "z", "text": "x", "title": 3}, '"title" has to be a string, this is an integer'),
        (["z", "x"], "not JSONL, which is one JSON object a line"),
        ("z", "a JSON object is needed, this is a string"),
    ],
)
def test_invalid_lines_are_errors_even_if_not_wanted(tmp_path: Path, record: Any, problem: str) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, "\n" + lines({"_id": "d1", "text": "x"}, record))
    assert str(error.value) == f"{tmp_path}/c:3: {problem}"


def test_tsv_splits_at_the_first_tab(tmp_path: Path) -> None:
    texts, _ = read(tmp_path, "d1\tone\ttwo\nd2\t\n")
    assert texts.documents == {"d1": Document("d1", "one\ttwo"), "d2": Document("d2", "")}
    with pytest.raises(InputError, match=r"c:2: a line has 2 tab-separated fields \(id, text\), this one has 1"):
        read(tmp_path, "d1\tx\nd2 y\n")


def test_tsv_columns_may_be_in_any_order(tmp_path: Path) -> None:
    texts, _ = read(tmp_path, "d1\thttp\tTitle\tone\ttwo\n", Fields(columns=("id", "url", "title", "text")))
    assert texts.documents == {"d1": Document("d1", "one\ttwo", "Title")}


def test_options_name_the_fields(files: Path, lbr: Program) -> None:
    write(files, {"odd.jsonl": '{"key":"d1","t":"ripe","words":"fig colour"}\n{"key":"d2","words":"gauge"}\n'})
    fields = ["--id-field", "key", "--text-field", "words", "--title-field", "t"]
    ended = lbr("rerank", "run.trec", "-c", "odd.jsonl", *fields, "--engine", "overlap")
    assert ended.out.splitlines()[0] == "q1 Q0 d1 1 1 lbr-overlap"
    write(files, {"odd.tsv": "u\td1\tripe\tfig colour\nu\td2\t\tgauge\n"})
    ended = lbr("rerank", "run.trec", "-c", "odd.tsv", "--tsv-columns", "x,id,title,text", "--engine", "overlap")
    assert ended.out.splitlines()[0] == "q1 Q0 d1 1 1 lbr-overlap"
    refused = lbr("rerank", "run.trec", "-c", "odd.tsv", "--tsv-columns", "text", "--engine", "overlap")
    assert refused.err == "lbr: --tsv-columns text: needs id and text once, and may name title once\n"


def test_bad_lines_can_be_skipped(files: Path, lbr: Program) -> None:
    write(files, {"docs.jsonl": '{"_id":"d1","text":"fig"}\n{"_id"\n{"_id":"d2","text":"tram"}\nnull\n'})
    refused = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap")
    assert (refused.code, refused.out) == (2, "")
    assert "docs.jsonl:2: not valid JSON" in refused.err
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", "--bad-lines", "skip")
    assert ended.code == 0
    assert "lbr: warning: docs.jsonl:2: not valid JSON" in ended.err
    assert "; 2 lines were left out" in ended.err


def test_shards_are_read_in_order(files: Path, lbr: Program) -> None:
    write(files, {"a.jsonl": '{"_id":"d1","text":"fig"}\n', "b.tsv": "d2\ttram\n"})
    assert lbr("rerank", "run.trec", "-c", "a.jsonl", "-c", "b.tsv", "--engine", "overlap").code == 0


def test_an_invalid_first_line_does_not_change_the_format(files: Path, lbr: Program) -> None:
    write(
        files, {"docs.jsonl": b'\xff{"_id":"d1","text":"x"}\n{"_id":"d1","text":"fig"}\n{"_id":"d2","text":"tram"}\n'}
    )
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", "--bad-lines", "skip")
    assert ended.code == 0
    assert "; 1 line was left out" in ended.err


def test_an_id_in_brackets_is_not_json(tmp_path: Path) -> None:
    texts, _ = read(tmp_path, "[1]\tripe\n{2}\tfig\n", **{"[1]": None, "{2}": None})
    assert texts.documents == {"[1]": Document("[1]", "ripe"), "{2}": Document("{2}", "fig")}


def test_skipping_bad_lines_does_not_skip_conflicting_texts(files: Path, lbr: Program) -> None:
    write(files, {"docs.jsonl": '{"_id":"d1","text":"a"}\n{"_id":"d1","text":"b"}\n{"_id":"d2","text":""}\n'})
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", "--bad-lines", "skip", "--quiet")
    assert (ended.code, ended.err) == (2, "lbr: docs.jsonl:2: document d1 has another text at docs.jsonl:1\n")


@pytest.mark.parametrize("title", [0, False, [], {}])
def test_a_title_is_a_string_or_null(tmp_path: Path, title: Any) -> None:
    with pytest.raises(InputError, match='"title" has to be a string'):
        read(tmp_path, lines({"_id": "d1", "text": "x", "title": title}))
    assert read(tmp_path, lines({"_id": "d1", "text": "x", "title": None}))[0].documents == {"d1": Document("d1", "x")}


def test_a_number_too_large_for_a_float_is_valid_json(tmp_path: Path) -> None:
    texts, _ = read(tmp_path, '{"_id":"d1","text":"x","weight":1e400}\n')
    assert list(texts.documents) == ["d1"]


def test_a_form_feed_is_an_id_and_not_a_blank_line(tmp_path: Path) -> None:
    texts, _ = read(tmp_path, "d1\tx\n\x0c\t\n", **{"\x0c": None})
    assert texts.documents == {"\x0c": Document("\x0c", "")}


ON_FILES = ["rerank", "run.trec", "--engine", "overlap", "--quiet"]


@pytest.mark.parametrize("option", ["--id-field", "--text-field", "--title-field"])
def test_field_options_have_no_effect_on_tsv(files: Path, lbr: Program, option: str) -> None:
    write(
        files, {"docs.tsv": "d1\tfig\nd2\ttram\n", "one.jsonl": '{"k":"d1","text":"fig"}\n', "rest.tsv": "d2\ttram\n"}
    )
    for command in (ON_FILES, ["report", "run.trec", "run.trec", "-o", "page.html"]):
        ended = lbr(*command, "-c", "docs.tsv", option, "k")
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.endswith(
            f"lbr: {option} has no effect: docs.tsv is TSV\nlbr: hint: --tsv-columns names its columns\n"
        )
    ended = lbr(*ON_FILES, "-c", "one.jsonl", "-c", "rest.tsv", "--id-field", "k")
    assert (ended.code, ended.out.count("\n"), ended.err) == (0, 3, "")


def test_tsv_columns_have_no_effect_on_jsonl(files: Path, lbr: Program) -> None:
    ended = lbr(*ON_FILES, "-c", "docs.jsonl", "--tsv-columns", "id,text")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "lbr: --tsv-columns has no effect: docs.jsonl is JSONL\n"
        "lbr: hint: --id-field, --text-field and --title-field name its keys\n"
    )
    write(files, {"docs.tsv": "x\td1\tfig\nx\td2\ttram\n", "more.jsonl": '{"_id":"d3","text":"x"}\n'})
    ended = lbr(*ON_FILES, "-c", "more.jsonl", "-c", "docs.tsv", "--tsv-columns", "x,id,text")
    assert (ended.code, ended.out.count("\n"), ended.err) == (0, 3, "")


def test_an_unknown_title_field_is_a_warning(files: Path, lbr: Program) -> None:
    ended = lbr(*ON_FILES, "-c", "docs.jsonl", "--title-field", "headline")
    assert (ended.code, ended.err) == (
        0,
        'lbr: warning: docs.jsonl: no document of the run has the title field "headline"\n',
    )
    assert lbr(*ON_FILES, "-c", "docs.jsonl", "--title-field", "title").err == ""


def test_a_dotted_field_is_a_path_into_objects(files: Path, lbr: Program) -> None:
    hits = [
        {"_id": "d1", "_source": {"body": "ripe figs", "title": "Figs"}},
        {"_id": "d2", "_source": {"body": "salt"}, "_source.title": "a key with a dot"},
    ]
    write(files, {"hits.jsonl": "".join(json.dumps(hit) + "\n" for hit in hits)})
    write(files, {"q.jsonl": json.dumps({"_id": "q1", "fields": {"text": "ripe figs"}})})
    fields = ("--text-field", "_source.body", "--title-field", "_source.title", "--topic-field", "fields.text")
    run = "q1 Q0 d2 1 2 x\nq1 Q0 d1 2 1 x\n"
    options = ("-c", "hits.jsonl", "-q", "q.jsonl", *fields, "--engine", "overlap")
    ended = lbr("rerank", *options, stdin=run.encode())
    assert [line.split()[2] for line in ended.out.splitlines()] == ["d1", "d2"]
    ended = lbr("rerank", *options, "--text-field", "_source.text", stdin=run.encode())
    assert ended.code == 2
    assert ended.err.splitlines()[0] == "lbr: hits.jsonl:1: no text (_source.text)"
