"""TREC and CLEF topics, in SGML and in XML.

SGML (TREC-1 on): `<top>` records whose tags are seldom closed and whose fields begin with labels, `<num> Number: 051`,
`<title> Topic: Airbus Subsidies`. XML (Web Track, TREC-COVID): well-formed, the number an attribute or a child of its
topic. Topics without fields (Clinical Trials) are a number and a text. CLEF writes the language before the name of a
field, `<EN-title>`. Blanks and line breaks inside a field become one space; repeated fields are joined with a space.

An XML file may not declare entities: nothing in it expands, and nothing outside it is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lbr_cli.errors import InputError
from lbr_cli.formats.topic import NUMBERS, TOPICS, Topic
from lbr_cli.formats.topics_xml import XmlTopics

# tags that begin a field wherever they stand; any other does at the beginning of a line, and after another field
SGML_TAGS = {"top", "head", "num", "dom", "title", "desc", "smry", "narr", "con", "fac", "def", "number", "query"}
ATTRIBUTE = re.compile(r"""([\w-]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""")
TAG = re.compile(r"<(/?)([A-Za-z][\w-]*)[^<>]*>")
LABEL = re.compile(r"\s*(Number|Domain|Topic|Title|Description|Summary|Narrative|Concept\(s\)|Factor\(s\))\s*:\s*")
REFERENCE = re.compile(r"&(?:(amp|lt|gt|quot|apos)|#(\d{1,7})|#x([0-9A-Fa-f]{1,6}));")
NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}


def read_topics(text: str, file: str) -> Iterator[Topic]:
    """The topics of a file. Raises InputError with file and line where it cannot be read."""
    first = TAG.search(text)
    rootless = first is not None and first[2].lower() in TOPICS and not text.lstrip().startswith(("<?", "<!"))
    if rootless and first is not None and first[2].lower() == "top":
        return _sgml(text, file)
    # a file of bare topics has no root: it gets one, on the same line
    return iter(XmlTopics(file).parse(f"<topics>{text}</topics>" if rootless else text))


def _sgml(text: str, file: str) -> Iterator[Topic]:
    topic: Topic | None = None
    field, start = "", 0
    line, counted = 1, 0
    for tag in TAG.finditer(text):
        closing, name = tag[1], tag[2].lower()
        inline = text[text.rfind("\n", 0, tag.start()) + 1 : tag.start()].strip(" \t")
        follows = field == TOPICS[1] and not closing and not text[start : tag.start()].strip()  # another tag
        if topic is not None and name not in SGML_TAGS and name != field and not follows and (inline or closing):
            continue  # part of a text
        if topic is not None:
            # the next tag ends a field, and so does its closing tag, behind which the topic's own text may follow
            topic.add(field, _clean(text[start : tag.start()]), file)
            field, start = (TOPICS[1] if closing else name), tag.end()
        if name == "top" or topic is None:
            line += text.count("\n", counted, tag.start())
            counted = tag.start()
        if name == "top":
            if topic is not None:
                yield topic
            topic = None if closing else Topic(line, _numbers(tag[0]))
            field, start = name, tag.end()
        elif topic is None:
            raise InputError(f"<{tag[1]}{tag[2]}> stands outside a <top>", file, line)
    if topic is not None:
        topic.add(field, _clean(text[start:]), file)
        yield topic


def _numbers(tag: str) -> dict[str, str]:
    """The number of a topic as an attribute of its SGML tag."""
    found = {name.lower(): (a or b or c).strip() for name, a, b, c in ATTRIBUTE.findall(tag)}
    return {name: value for name, value in found.items() if name in NUMBERS}


def _clean(text: str) -> str:
    """A field without its label, its line breaks, and the references that stand for characters."""
    label = LABEL.match(text)
    text = text[label.end() :] if label else text
    return " ".join(REFERENCE.sub(_character, text).split())


def _character(reference: re.Match[str]) -> str:
    if reference[1]:
        return NAMED[reference[1]]
    code = int(reference[2]) if reference[2] else int(reference[3], 16)
    return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else reference[0]
