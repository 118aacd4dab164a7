"""TREC and CLEF topics, in SGML and in XML.

SGML (TREC-1 on): `<top>` records whose tags are seldom closed and whose fields begin with labels, `<num> Number: 051`,
`<title> Topic: Airbus Subsidies`. XML (Web Track, TREC-COVID): well-formed, the number an attribute or a child of its
topic. Topics without fields (Clinical Trials) are a number and a text. CLEF writes the language before the name of a
field, `<EN-title>`. Blanks and line breaks inside a field become one space; repeated fields are joined with a space.

An XML file may not declare entities, so no entity is expanded and no other file is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple
from xml.parsers import expat

from lbr_cli.errors import InputError

TOPICS = ("topic", "top")
# names of fields for the user -> names in files; the first that is present is used
FIELDS = {
    "title": ("title", "query"),
    "description": ("description", "desc"),
    "narrative": ("narrative", "narr"),
    "text": ("text", *TOPICS),
}
DEFAULT = "title"
NUMBERS = ("num", "number", "id", "qid", "identifier")
LANGUAGE = re.compile(r"[a-z]{2,3}-")
# tags that begin a field anywhere; any other tag does at the beginning of a line, and after another field
SGML_TAGS = {"top", "head", "num", "dom", "title", "desc", "smry", "narr", "con", "fac", "def", "number", "query"}
ATTRIBUTE = re.compile(r"""([\w-]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""")
TAG = re.compile(r"<(/?)([A-Za-z][\w-]*)[^<>]*>")
LABEL = re.compile(r"\s*(Number|Domain|Topic|Title|Description|Summary|Narrative|Concept\(s\)|Factor\(s\))\s*:\s*")
REFERENCE = re.compile(r"&(?:(amp|lt|gt|quot|apos)|#(\d{1,7})|#x([0-9A-Fa-f]{1,6}));")
NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}


class Topic(NamedTuple):
    """A topic, its first line, and its fields by their names in the file, in lower case.

    Text outside all fields is a field with the name of the topic's element.
    """

    line: int
    fields: dict[str, str]

    @property
    def number(self) -> str:
        """The id; "" if there is none."""
        return next((self.fields[name] for name in NUMBERS if self.fields.get(name)), "")

    def add(self, name: str, text: str, file: str) -> None:
        """Add a field, or more text to it. InputError for a second number."""
        known = self.fields.get(name)
        if name in NUMBERS and known and text not in ("", known):
            raise InputError(f"a topic with two numbers, {known} and {text}", file, self.line)
        if name in TOPICS and not text:
            return
        self.fields[name] = text if not known or name in NUMBERS else f"{known} {text}".rstrip()

    def text(self, field: str, file: str) -> str:
        """Return the field, as `find` does. InputError if there is none, or one in each of several languages."""
        text = self.find(field)
        if text is not None:
            return text
        if names := self._in_languages(field):
            message = f"topic {self.number} has {field.lower()} in several languages: {', '.join(names)}"
            raise InputError(message, file, self.line, hint=f"choose one with --topic-field {names[0]}")
        hint = f"the topic has {', '.join(self._others()) or 'nothing else'}; choose one with --topic-field"
        raise InputError(f"topic {self.number} has no {field}", file, self.line, hint=hint)

    def find(self, field: str) -> str | None:
        """Return the field of this name, in any case and with or without the language before it, or None.

        The text of a topic that has no fields is its title.
        """
        names = [name for name in _names(field) if name in self.fields]
        others, translated = self._others(), self._in_languages(field)
        if not names and field.lower() == DEFAULT and len(others) == 1 and others[0] in TOPICS:
            names = others
        if not names and len(translated) == 1:
            names = translated
        return self.fields[names[0]] if names else None

    def _others(self) -> list[str]:
        return [name for name in self.fields if name not in NUMBERS]

    def _in_languages(self, field: str) -> list[str]:
        names = _names(field)
        return [name for name in self._others() if LANGUAGE.match(name) and LANGUAGE.sub("", name, count=1) in names]


def _names(field: str) -> tuple[str, ...]:
    """Return the names in files of a field that the user names."""
    return FIELDS.get(field.lower(), (field.lower(),))


def read_topics(text: str, file: str) -> Iterator[Topic]:
    """Return the topics of a file. InputError, with file and line, if it is invalid."""
    first = TAG.search(text)
    name = first[2].lower() if first and not text.lstrip().startswith(("<?", "<!")) else ""
    if name == "top":
        return _sgml(text, file)
    # a file of bare topics has no root element: add one, without changing line numbers
    return iter(_XmlTopics(file).parse(f"<topics>{text}</topics>" if name in TOPICS else text))


def _sgml(text: str, file: str) -> Iterator[Topic]:
    topic: Topic | None = None
    field, start = "", 0
    line, counted = 1, 0
    for tag in TAG.finditer(text):
        closing, name = tag[1], tag[2].lower()
        inline = text[text.rfind("\n", 0, tag.start()) + 1 : tag.start()].strip(" \t")
        follows = field == TOPICS[1] and not closing and not text[start : tag.start()].strip()  # directly after a tag
        if topic is not None and name not in SGML_TAGS and name != field and not follows and (inline or closing):
            continue  # part of a text
        if topic is not None:
            # the next tag ends a field; after its closing tag, text of the topic itself may follow
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
            raise InputError(f"<{tag[1]}{tag[2]}> is outside <top>", file, line)
    if topic is not None:
        topic.add(field, _clean(text[start:]), file)
        yield topic


def _numbers(tag: str) -> dict[str, str]:
    """Return the number of a topic if it is an attribute of its SGML tag."""
    values = {name.lower(): (a or b or c).strip() for name, a, b, c in ATTRIBUTE.findall(tag)}
    return {name: value for name, value in values.items() if name in NUMBERS}


def _clean(text: str) -> str:
    """Return a field without its label and line breaks, and with its character references replaced."""
    label = LABEL.match(text)
    return " ".join(REFERENCE.sub(_character, text[label.end() :] if label else text).split())


def _character(reference: re.Match[str]) -> str:
    if reference[1]:
        return NAMED[reference[1]]
    code = int(reference[2]) if reference[2] else int(reference[3], 16)
    return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else reference[0]


class _XmlTopics:
    """Collects the direct children of each topic element, and the text of topics that have text of their own."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._topics: list[Topic] = []
        self._depth = 0
        self._topic_depth = 0
        self._field = ""
        self._text: list[str] = []  # of the field
        self._whole: list[str] = []  # of the topic, without its number
        self._has_own = False  # text outside fields
        self._parser = expat.ParserCreate("utf-8")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        # expat omits an entity of an external DTD, which it does not read, without an error
        self._parser.EntityDeclHandler = lambda name, *_: self._refuse_entity("declares", name)
        self._parser.SkippedEntityHandler = lambda name, *_: self._refuse_entity("uses", name)

    def parse(self, text: str) -> list[Topic]:
        """Return the topics of a whole file."""
        try:
            self._parser.Parse(text, True)
        except expat.ExpatError as error:
            hint = "write & as &amp; and < as &lt;" if error.code in (4, 11) else ""
            message = f"not well-formed XML: {expat.ErrorString(error.code)}"
            raise InputError(message, self._file, error.lineno, hint=hint) from error
        if not self._topics:
            raise InputError(f"no topics: no element is called {' or '.join(TOPICS)}", self._file)
        return self._topics

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if not self._topic_depth and name.lower() in TOPICS:
            self._topic_depth = self._depth
            numbers = {key.lower(): value.strip() for key, value in attributes.items() if key.lower() in NUMBERS}
            self._topics.append(Topic(self._parser.CurrentLineNumber, numbers))
            self._whole.clear()
            self._has_own = False
        elif self._topic_depth and self._depth == self._topic_depth + 1:
            self._field = name.lower()
            self._text.clear()

    def _characters(self, text: str) -> None:
        if not self._topic_depth:
            return
        inside = self._depth > self._topic_depth
        if inside:
            self._text.append(text)
        elif text.strip():
            self._has_own = True
        if not (inside and self._field in NUMBERS):
            self._whole.append(text)

    def _end(self, name: str) -> None:
        if self._topic_depth and self._depth == self._topic_depth + 1:
            self._topics[-1].add(self._field, _joined(self._text), self._file)
        if self._depth == self._topic_depth:
            if self._has_own:
                self._topics[-1].add(name.lower(), _joined(self._whole), self._file)
            self._topic_depth = 0
        self._depth -= 1

    def _refuse_entity(self, verb: str, name: str) -> None:
        message = f"{verb} the entity {name}; entities are not expanded"
        raise InputError(message, self._file, self._parser.CurrentLineNumber)


def _joined(texts: list[str]) -> str:
    return " ".join("".join(texts).split())
