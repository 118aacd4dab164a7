"""TREC topics, in SGML and in XML.

SGML (TREC-1 on): `<top>` records whose tags are seldom closed and whose fields begin with labels, `<num> Number: 051`,
`<title> Topic: Airbus Subsidies`. XML (Web Track, TREC-COVID): well-formed, the number an attribute or a child of its
topic. Blanks and line breaks inside a field become one space.

An XML file may not declare entities: nothing in it expands, and nothing outside it is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple
from xml.parsers import expat

from lbr_cli.errors import InputError

# what a user may call a field -> what files call it, the first that is there
FIELDS = {
    "title": ("title", "query"),
    "description": ("description", "desc"),
    "narrative": ("narrative", "narr"),
}
# tags that begin a field wherever they stand; any other does at the beginning of a line
SGML_TAGS = {"top", "head", "num", "dom", "title", "desc", "smry", "narr", "con", "fac", "def", "number", "query"}
NUMBERS = ("num", "number", "id", "qid")
TOPICS = ("topic", "top")
TAG = re.compile(r"<(/?)([A-Za-z][\w-]*)[^<>]*>")
LABEL = re.compile(r"\s*(Number|Domain|Topic|Title|Description|Summary|Narrative|Concept\(s\)|Factor\(s\))\s*:\s*")
REFERENCE = re.compile(r"&(?:(amp|lt|gt|quot|apos)|#(\d{1,7})|#x([0-9A-Fa-f]{1,6}));")
NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}


class Topic(NamedTuple):
    """A topic, the line that it begins in, and its fields by their names in the file, in lower case."""

    line: int
    fields: dict[str, str]

    def id_and_text(self, field: str, file: str) -> tuple[str, str]:
        """Its number and the field that the user wants, or InputError."""
        number = next((self.fields[name] for name in NUMBERS if name in self.fields), "")
        if not number:
            raise InputError("a topic without a number", file, self.line)
        text = next((self.fields[name] for name in FIELDS.get(field, (field,)) if name in self.fields), None)
        if text is None:
            there = ", ".join(name for name in self.fields if name not in NUMBERS) or "nothing else"
            hint = f"it has {there}; choose one with --topic-field"
            raise InputError(f"topic {number} has no {field}", file, self.line, hint=hint)
        return number, text


def read_topics(text: str, file: str) -> Iterator[Topic]:
    """The topics of a file. Raises InputError with file and line where it cannot be read."""
    first = TAG.search(text)
    if first is not None and first[2].lower() == "top" and not text.lstrip().startswith(("<?", "<!")):
        return _sgml(text, file)
    return iter(_Xml(file).parse(text))


def _sgml(text: str, file: str) -> Iterator[Topic]:
    topic: Topic | None = None
    field, start = "", 0
    line, counted = 1, 0
    for tag in TAG.finditer(text):
        closing, name = tag[1], tag[2].lower()
        inline = text[text.rfind("\n", 0, tag.start()) + 1 : tag.start()].strip(" \t")
        if topic is not None and name not in SGML_TAGS and (inline or closing):
            continue  # part of a text
        if topic is not None and field:
            # the first of several fields of one name counts; a closing tag ends a field, and so does the next one
            topic.fields.setdefault(field, _clean(text[start : tag.start()]))
            field = ""
        if name == "top":
            if topic is not None:
                yield topic
            line += text.count("\n", counted, tag.start())
            counted = tag.start()
            topic = None if closing else Topic(line, {})
        elif topic is not None and not closing:
            field, start = name, tag.end()
        elif topic is None:
            line += text.count("\n", counted, tag.start())
            counted = tag.start()
            raise InputError(f"<{tag[1]}{tag[2]}> stands outside a <top>", file, line)
    if topic is not None:
        if field:
            topic.fields.setdefault(field, _clean(text[start:]))
        yield topic


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


class _Xml:
    """Collects the direct children of each topic element."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._topics: list[Topic] = []
        self._depth = 0
        self._topic_depth = 0
        self._field = ""
        self._text: list[str] = []
        self._parser = expat.ParserCreate("utf-8")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text.append
        self._parser.EntityDeclHandler = self._refuse
        self._parser.SkippedEntityHandler = self._skipped

    def parse(self, text: str) -> list[Topic]:
        first = TAG.search(text)
        # a file of bare topics has no root: give it one, on the same line
        rootless = first is not None and first[2].lower() in TOPICS and not text.lstrip().startswith(("<?", "<!"))
        try:
            self._parser.Parse(f"<topics>{text}</topics>" if rootless else text, True)
        except expat.ExpatError as error:
            hint = "& is written &amp; and < is written &lt;" if error.code in (4, 11) else ""
            raise InputError(
                f"not well-formed XML: {expat.ErrorString(error.code)}", self._file, error.lineno, hint=hint
            ) from error
        if not self._topics:
            raise InputError(f"no topics: no element is called {' or '.join(TOPICS)}", self._file)
        return self._topics

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if not self._topic_depth and name.lower() in TOPICS:
            self._topic_depth = self._depth
            numbers = {key.lower(): value.strip() for key, value in attributes.items() if key.lower() in NUMBERS}
            self._topics.append(Topic(self._parser.CurrentLineNumber, numbers))
        elif self._topic_depth and self._depth == self._topic_depth + 1:
            self._field = name.lower()
            self._text.clear()

    def _end(self, name: str) -> None:
        if self._topic_depth and self._depth == self._topic_depth + 1:
            self._topics[-1].fields.setdefault(self._field, " ".join("".join(self._text).split()))
        if self._depth == self._topic_depth:
            self._topic_depth = 0
        self._depth -= 1

    def _skipped(self, name: str, *_: object) -> None:
        """Where a DTD is named and not read, expat would leave out what only it can know."""
        raise InputError(f"uses the entity {name}, and entities are not expanded here", self._file, self._line())

    def _line(self) -> int:
        return int(self._parser.CurrentLineNumber)

    def _refuse(self, name: str, *_: object) -> None:
        message = f"declares the entity {name}, and entities are not expanded here"
        raise InputError(message, self._file, self._line())
