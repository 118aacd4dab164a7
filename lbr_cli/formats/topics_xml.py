"""The XML parser of topics."""

from __future__ import annotations

from xml.parsers import expat

from lbr_cli.errors import InputError
from lbr_cli.formats.topic import NUMBERS, TOPICS, Topic


class XmlTopics:
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
        self._parser.EntityDeclHandler = self._refuse
        self._parser.SkippedEntityHandler = self._skipped

    def parse(self, text: str) -> list[Topic]:
        try:
            self._parser.Parse(text, True)
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
            self._topics.append(Topic(self._line(), numbers))
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

    def _skipped(self, name: str, *_: object) -> None:
        """Refuse an entity of a DTD that is named and not read, which expat would leave out."""
        raise InputError(f"uses the entity {name}, and entities are not expanded here", self._file, self._line())

    def _line(self) -> int:
        return int(self._parser.CurrentLineNumber)

    def _refuse(self, name: str, *_: object) -> None:
        message = f"declares the entity {name}, and entities are not expanded here"
        raise InputError(message, self._file, self._line())


def _joined(texts: list[str]) -> str:
    return " ".join("".join(texts).split())
