"""TRECTEXT corpora: documents, fields, and the lines of errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lbr_cli.core import Document
from lbr_cli.errors import InputError
from lbr_cli.formats.corpus import WantedDocuments, read_corpus
from lbr_cli.formats.fields import Fields
from lbr_cli.formats.input_files import InputFiles
from support.files import QUERIES, RUN, write
from support.program import Program


class Everything:
    def __contains__(self, _: object) -> bool:
        return True


def read(folder: Path, content: str | bytes, fields: Fields | None = None, *, skip: bool = False) -> list[Document]:
    write(folder, {"c": content})
    documents = WantedDocuments(Everything())

    def bad(error: InputError) -> None:
        if not skip:
            raise error

    read_corpus(InputFiles().open(str(folder / "c")), documents, fields or Fields(), lambda _: None, bad)
    return list(documents.documents.values())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("<DOC>\n<DOCNO> a b </DOCNO>\n<TEXT>\nx\ny\n</TEXT>\n</DOC>\n", Document("a b", "x y")),
        ("<doc>\r\n<docno>a</docno>\r\n<text>x</text>\r\n</doc>\r\n", Document("a", "x")),
        ("<DOC><DOCNO>a</DOCNO><TEXT>x</TEXT><TEXT>y</TEXT></DOC>", Document("a", "x y")),
        ("<DOC><DOCNO>a</DOCNO><HL>t</HL><LP>x</LP><TEXT>y</TEXT></DOC>", Document("a", "x y", "t")),
        ("<DOC><DOCNO>a\n<HEADLINE>t\n<BYLINE>b\n<TEXT>x <P>y\n</DOC>", Document("a", "x y", "t")),
        ("<DOC><DOCNO>a</DOCNO><DOCID>9</DOCID><TITLE>t</TITLE><P>x</P><P>y</P></DOC>", Document("a", "x y", "t")),
        ("<DOC><DOCNO>a</DOCNO><TEXT>x <TITLE>t</TITLE> y</TEXT></DOC>", Document("a", "x t y")),
        ("<DOC><DOCNO>a</DOCNO><HEAD>s</HEAD><HEAD>t</HEAD><TEXT>x</TEXT></DOC>", Document("a", "x", "s t")),
        ("<DOC><DOCNO>a</DOCNO><TEXT></TEXT></DOC>", Document("a", "")),
        ("<DOC><DOCNO>R&amp;D</DOCNO><TEXT>R&amp;D</TEXT></DOC>", Document("R&amp;D", "R&D")),
        ("<DOC><DOCNO>a</DOCNO><TEXT>&lt;&#65;&#x42;&hyph;&eacute;&unknown; ?q=1&copy=2</TEXT></DOC>",
         Document("a", "<AB-é&unknown; ?q=1&copy=2")),
        ("<DOC><DOCNO>a</DOCNO><TEXT>1 < 2 <!-- no --> <me@x.org></TEXT></DOC>", Document("a", "1 < 2 <me@x.org>")),
        ('<?xml version="1.0"?>\n\n<ROOT>\n<DOC id="1">\n<DOCNO>a</DOCNO>x</DOC>\n</ROOT>', Document("a", "x")),
        ("<DOC><DOCNO>a</DOCNO><LP>x<TEXT>y</TEXT></DOC>", Document("a", "x y")),
    ],
)  # fmt: skip
def test_documents_in_all_forms_are_read(tmp_path: Path, content: str, expected: Document) -> None:
    assert read(tmp_path, content) == [expected]


def test_several_documents_may_be_on_one_line(tmp_path: Path) -> None:
    content = "<DOC><DOCNO>a</DOCNO>x</DOC> <DOC><DOCNO>b</DOCNO>\ny</DOC><DOC>\n<DOCNO>c</DOCNO></DOC>"
    assert read(tmp_path, content) == [Document("a", "x"), Document("b", "y"), Document("c", "")]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("\n<DOC>\n<ID>a</ID></DOC>", "2: a document without <DOCNO>"),
        ("<DOC><DOCNO>a</DOCNO>\n<DOCNO>b</DOCNO></DOC>", "2: a document with two <DOCNO>: a and b"),
        ("<DOC>\n<DOCNO> </DOCNO></DOC>", "2: <DOCNO> is empty"),
        ("<DOC><DOCNO>a</DOCNO>\n<DOC><DOCNO>b</DOCNO></DOC>", "2: <DOC> before the end of the document at {}:1"),
        ("<DOC><DOCNO>a</DOCNO></DOC>\n<DOC>\n", "2: <DOC> is not closed: the file ends inside it"),
        ("<DOC><DOCNO>a</DOCNO></DOC>\n</DOC>\n", "2: </DOC> without <DOC>"),
        ("<DOC><DOCNO>a</DOCNO></DOC>\nlost\n", "2: text outside <DOC>"),
        ("<DOC><DOCNO>a</DOCNO>x</DOC>\n<DOC>\n<DOCNO>a</DOCNO>y</DOC>", "2: document a has another text at {}:1"),
        ("<DOC><DOCNO>a</DOCNO>\n<DOCHDR>http://x</DOCHDR></DOC>",
         "2: a TRECWEB corpus (<DOCHDR>); its HTML is unsupported"),
        (b"<DOC><DOCNO>a</DOCNO>\n<TEXT>caf\xe9</TEXT></DOC>", "2: byte 10 of the line, 0xe9, is not UTF-8"),
    ],
)  # fmt: skip
def test_invalid_documents_are_errors(tmp_path: Path, content: str | bytes, problem: str) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, content)
    assert str(error.value) == f"{tmp_path}/c:{problem.format(tmp_path / 'c')}"


def test_latin_1_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, b"<DOC><DOCNO>a</DOCNO>\xe9</DOC>")
    assert error.value.hint == "convert the file, e.g. with iconv -f latin1 -t utf-8"


def test_invalid_documents_can_be_skipped_and_trecweb_cannot(tmp_path: Path) -> None:
    good = "<DOC><DOCNO>b</DOCNO>y</DOC>\n"
    assert read(tmp_path, f"<DOC></DOC>\n{good}", skip=True) == [Document("b", "y")]
    assert read(tmp_path, f"<DOC><DOCNO>a</DOCNO>x\n{good}", skip=True) == [Document("b", "y")]
    with pytest.raises(InputError, match="TRECWEB"):
        read(tmp_path, f"{good}<DOC><DOCNO>w</DOCNO><DOCHDR></DOCHDR></DOC>", skip=True)


def test_options_name_elements(tmp_path: Path) -> None:
    fields = Fields("DOCID", "Body", "subject")
    content = "<DOC><DOCNO>a</DOCNO><DOCID>7</DOCID><SUBJECT>t</SUBJECT><BODY>x</BODY><TEXT>y</TEXT></DOC>"
    assert read(tmp_path, content, fields) == [Document("7", "x", "t")]
    with pytest.raises(InputError, match=r"c:1: document a has no <BODY>") as error:
        read(tmp_path, "<DOC><DOCNO>a</DOCNO><P>x</DOC>", Fields(text_field="body"))
    assert error.value.hint == "name the element with --text-field; the document has DOCNO, P"


WORDS = st.text(st.characters(exclude_characters="<>&\r\n", exclude_categories=("C", "Z")), min_size=1, max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.dictionaries(WORDS, st.lists(WORDS, min_size=1), min_size=1, max_size=5))
def test_documents_equal_those_of_the_same_corpus_in_jsonl(tmp_path: Path, texts: dict[str, list[str]]) -> None:
    trec = "".join(
        f"<DOC>\n<DOCNO> {key} </DOCNO>\n<TEXT>\n{chr(10).join(words)}\n</TEXT>\n</DOC>\n"
        for key, words in texts.items()
    )
    jsonl = "".join(json.dumps({"id": key, "text": " ".join(words)}) + "\n" for key, words in texts.items())
    assert read(tmp_path, trec) == read(tmp_path, jsonl)


def test_a_run_is_reranked_with_several_files(tmp_path: Path, lbr: Program) -> None:
    one = "<DOC><DOCNO>d1</DOCNO><HEAD>Figs</HEAD><TEXT>Ripe figs turn purple.</TEXT></DOC>"
    two = "<DOC><DOCNO>d2</DOCNO>Lisbon trams use 900 mm gauge.</DOC>"
    twin = '{"id":"d1","title":"Figs","text":"Ripe figs turn purple."}\n'
    twin += '{"id":"d2","text":"Lisbon trams use 900 mm gauge."}\n'
    write(tmp_path, {"run.trec": RUN, "queries.tsv": QUERIES, "one": one, "two": two, "twin.jsonl": twin})
    common = ("rerank", "run.trec", "--engine", "overlap", "--quiet", "-c")
    ended = lbr(*common, "one", "-c", "two")
    assert (ended.code, ended.out) == (0, lbr(*common, "twin.jsonl").out)
    refused = lbr(*common, "one", "-c", "two", "--tsv-columns", "id,text")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("lbr: --tsv-columns has no effect: one, two are TRECTEXT\n")
