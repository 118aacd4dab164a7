"""TREC topics in SGML and XML."""

from __future__ import annotations

from pathlib import Path

import pytest

from lbr_cli.errors import InputError
from lbr_cli.formats.input_files import InputFiles
from lbr_cli.formats.queries import read_queries
from support.files import write
from support.program import Program


def texts(path: Path, content: str | bytes, field: str = "title") -> dict[str, str | None]:
    write(path, {"t": content})
    return {
        query_id: line.query.text for query_id, line in read_queries(InputFiles().open(str(path / "t")), field).items()
    }


SGML = """\
<top>
<head> Tipster Topic Description
<num> Number:  051
<dom> Domain:  International Economics
<title> Topic:  Airbus
   Subsidies &amp; R&D &#233; &lt;b&gt;
<desc> Description:
Assistance to Airbus.

<narr> Narrative:
None.
</top>

<top><num>51</num><title>
light
</title><desc>lights</desc></top>
"""


def test_sgml_with_labels_and_unclosed_tags(tmp_path: Path) -> None:
    assert texts(tmp_path, SGML) == {"051": "Airbus Subsidies & R&D é <b>", "51": "light"}
    assert texts(tmp_path, SGML, "description") == {"051": "Assistance to Airbus.", "51": "lights"}
    assert texts(tmp_path, SGML, "desc") == texts(tmp_path, SGML, "description")
    assert texts(tmp_path, SGML.replace("\n", "\r\n")) == texts(tmp_path, SGML)


def test_sgml_on_one_line(tmp_path: Path) -> None:
    line = "<top><num> Number: 051<title> Topic: R&D <desc> Description: x</top>"
    assert texts(tmp_path, line) == {"051": "R&D"}


@pytest.mark.parametrize(
    "content",
    [
        "<topics><topic number='51'><query>R&amp;D</query><subtopic number='1'><query>no</query></subtopic></topic>"
        "</topics>",
        "<topic><number>51</number><query>R&amp;D</query></topic>",
        "<topic><num> 51 </num><title>R&#38;D</title></topic><topic number='52'><title>R&amp;D</title></topic>",
        "<?xml version='1.0' encoding='latin-1'?><t><topic id='51'>\n<title>\n <b>R&amp;</b>D\n</title></topic></t>",
        "<!DOCTYPE t [ <!ELEMENT t (topic)*> ]><t><topic number='51'><query><![CDATA[R&D]]></query></topic></t>",
        "<!-- c --><t><TOPIC NUMBER='51'><Title>R&amp;D</Title></TOPIC></t>",
    ],
)
def test_xml_topics(tmp_path: Path, content: str) -> None:
    assert texts(tmp_path, content)["51"] == "R&D"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            "<?xml version='1.0'?>\n<!DOCTYPE t [\n<!ENTITY a 'b'>\n]><t><topic number='1'><title>&a;</title></topic>"
            "</t>",
            "t:3: declares the entity a; entities are not expanded",
        ),
        (
            "<!DOCTYPE t [ <!ENTITY a SYSTEM '/etc/passwd'> ]>\n<t><topic number='1'><title>&a;</title></topic></t>",
            "t:1: declares the entity a; entities are not expanded",
        ),
        (
            "<!DOCTYPE t SYSTEM 't.dtd'>\n<t><topic number='1'><query>caf&eacute;</query></topic></t>",
            "t:2: uses the entity eacute; entities are not expanded",
        ),
        ("<t>\n<topic number='1'><title>R&D</title></topic></t>", "t:2: not well-formed XML: "),
        ("<t>\n<topic number='1'><title>x</topic></t>", "t:2: not well-formed XML: mismatched tag"),
        ("<t><topic number='1'>", "t:2: not well-formed XML: no element found"),
        ("<t><x/></t>", "t: no topics: no element is called topic or top"),
        ("<t>\n<topic><title>x</title></topic></t>", "t:2: a topic without a number"),
        ("<t>\n<topic number='7'><url>x</url></topic></t>", "t:2: topic 7 has no title"),
        ("<top>\n<num> Number: 7\n<url>x\n</top>", "t:1: topic 7 has no title"),
        ("<top><num>1<title>a</top>\n\n<top><title>x</top>", "t:3: a topic without a number"),
        ("<top><num>1<title>a</top>\n<top><num>1<title>b</top>", "t:2: query 1 has another text at "),
        ("<top><num>1<title>a</top>\n<num>2", "t:2: <num> is outside <top>"),
    ],
)
def test_invalid_topics_are_errors(tmp_path: Path, content: str, problem: str) -> None:
    with pytest.raises(InputError) as error:
        texts(tmp_path, content)
    assert str(error.value).startswith(f"{tmp_path}/{problem}")


def test_a_missing_field_is_an_error_that_names_the_option(files: Path, lbr: Program) -> None:
    write(files, {"queries.tsv": "<top>\n<num>q1\n<desc>ripe fig colour\n</top>\n<top><num>q2<desc>tram gauge</top>\n"})
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", "--quiet")
    assert ended.err == (
        "lbr: queries.tsv:1: topic q1 has no title\nlbr: hint: the topic has desc; choose one with --topic-field\n"
    )
    chosen = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", "--topic-field", "description")
    assert chosen.out.startswith("q1 Q0 d1 1 0.33333334 ")


@pytest.mark.parametrize("title", ["dogs <i>and</i> cats", "x <= 5 and y > 3 <foo@bar.com> z", "a </b> c"])
def test_tags_inside_an_sgml_text_are_text(tmp_path: Path, title: str) -> None:
    assert texts(tmp_path, f"<top>\n<num> 1\n<title> {title}\n<url>u\n</top>") == {"1": title}


CLINICAL = "<topics>\n<topic number='1'>\nA man of 45\n with fever &amp; a fig.\n</topic>\n</topics>\n"


@pytest.mark.parametrize(
    "content",
    [
        "<topics>\n<topic number='1'>\nA man of 45\n with fever.\n</topic>\n</topics>",
        "<topic number='1'>A man of 45 with fever.</topic>\n<topic number='2'>x</topic>",
        '<top number="1">\nA man of 45\nwith fever.\n</top>',
        "<top number=1>A man of 45 with fever.</top>",
        "<top>\n<num> Number: 1 </num>\nA man of 45 with fever.\n</top>",
        "<topics><topic><number>1</number>A man of 45 with fever.</topic></topics>",
    ],
)
def test_the_text_of_a_topic_without_fields_is_the_query(tmp_path: Path, content: str) -> None:
    assert texts(tmp_path, content)["1"] == "A man of 45 with fever."
    assert texts(tmp_path, content, "text")["1"] == "A man of 45 with fever."
    with pytest.raises(InputError, match="topic 1 has no description"):
        texts(tmp_path, content, "description")


def test_text_outside_the_fields_is_a_field(tmp_path: Path) -> None:
    mixed = "<t><topic number='1'>A <b>ripe</b> fig.</topic></t>"
    with pytest.raises(InputError) as error:
        texts(tmp_path, mixed)
    assert error.value.hint == "the topic has b, topic; choose one with --topic-field"
    assert texts(tmp_path, mixed, "Topic") == {"1": "A ripe fig."}


CLEF_XML = """\
<topics>
<topic lang="en">
<identifier>C301</identifier>
<title>Nestlé Brands</title>
<description>What brands?</description>
<narrative>Relevant are brands.</narrative>
<narrative>Others are not.</narrative>
</topic>
</topics>
"""
CLEF_SGML = """\
<top>
<num> C001 </num>
<EN-title> Architecture in Berlin </EN-title>
<EN-desc> Find documents. </EN-desc>
<EN-desc> Of buildings. </EN-desc>
</top>
<top><num>C002</num><EN-title>Drugs</EN-title><EN-desc>a</EN-desc></top>
"""


def test_clef_topics_have_languages(tmp_path: Path) -> None:
    assert texts(tmp_path, CLEF_XML) == {"C301": "Nestlé Brands"}
    assert texts(tmp_path, CLEF_XML, "NARRATIVE") == {"C301": "Relevant are brands. Others are not."}
    expected = {"C001": "Architecture in Berlin", "C002": "Drugs"}
    assert texts(tmp_path, CLEF_SGML) == texts(tmp_path, CLEF_SGML, "en-TITLE") == expected
    assert texts(tmp_path, f"<topics>{CLEF_SGML}</topics>") == expected
    assert texts(tmp_path, CLEF_SGML, "description") == {"C001": "Find documents. Of buildings.", "C002": "a"}


def test_a_field_in_several_languages_has_to_be_chosen(tmp_path: Path) -> None:
    both = CLEF_SGML.replace("<EN-desc> Find documents. </EN-desc>", "<DE-title> Architektur </DE-title>")
    with pytest.raises(InputError) as error:
        texts(tmp_path, both)
    message = f"{tmp_path}/t:1: topic C001 has title in several languages: en-title, de-title"
    assert (str(error.value), error.value.hint) == (message, "choose one with --topic-field en-title")
    # the other topic has no German title, and the run does not need it
    found = read_queries(InputFiles().open(str(tmp_path / "t")), "DE-title", wanted={"C001"})
    assert [line.query.text for line in found.values()] == ["Architektur", None]


def test_a_topic_with_two_numbers_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="t:1: a topic with two numbers, 1 and 2"):
        texts(tmp_path, "<top><num>1</num><num>2</num><title>x</title></top>")
    assert texts(tmp_path, "<t><topic number='1'><number>1</number><title>x</title></topic></t>") == {"1": "x"}


NEEDLESS = "<t><topic number='q1'><title>fig</title></topic><topic number='q2'/>\n<topic><title>x</title></topic></t>"


def test_only_topics_that_the_run_names_need_a_title(files: Path, lbr: Program) -> None:
    (files / "queries.tsv").unlink()
    write(files, {"topics.xml": NEEDLESS, "one.trec": "q1 Q0 d3 1 2 x\nq1 Q0 d2 2 1 x\n"})
    ended = lbr("rerank", "one.trec", "-c", "docs.jsonl", "--engine", "overlap", "--quiet")
    assert (ended.code, ended.out.count("\n")) == (0, 2)
    warning = "lbr: warning: topics.xml:2: a topic without a number; 1 of 3 topics are left out\n"
    assert ended.err == warning
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", "--quiet")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "lbr: topics.xml:1: topic q2 has no title\n"
        "lbr: hint: the topic has nothing else; choose one with --topic-field\n"
    )


@pytest.mark.parametrize("content", [SGML, CLEF_SGML, CLEF_XML, CLINICAL])
def test_topics_separated_by_carriage_returns_are_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputError, match="t:1: a carriage return inside the line"):
        texts(tmp_path, content.replace("\n", "\r"))
    for ends in ("\r\n", "\r\r\n"):
        assert texts(tmp_path, content.replace("\n", ends)) == texts(tmp_path, content)
