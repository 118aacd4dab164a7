"""TRECTEXT corpora: `<DOC>` elements with a `<DOCNO>`, as the classic TREC, CLEF and FIRE collections have them.

    <DOC>
    <DOCNO> AP880212-0001 </DOCNO>
    <HEAD>Reports of the Day</HEAD>
    <TEXT> … </TEXT>
    </DOC>

This is SGML, not XML: tags are in upper or lower case and need not be closed. The text is the content of all text
elements, or of the whole document if there are none. Tags and comments become blanks, character references become their
characters, and each run of white space becomes one space. No entity is declared or expanded.
"""

from __future__ import annotations

import html.entities
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from lbr_cli.core import Document
from lbr_cli.errors import InputError
from lbr_cli.formats.fields import Fields
from lbr_cli.formats.files import BLANKS, Numbered, decoded

IDS = ("docno",)
# LP and LEADPARA are the first paragraphs of the Wall Street Journal and the San Jose Mercury News
TEXTS = ("text", "lp", "leadpara")
TITLES = ("title", "headline", "head", "hl", "ttl", "ti", "doctitle")  # the first that is present is used
OTHER_IDS = ("docno", "docid", "docoldno", "fileid")  # not part of the text of a whole document

START = re.compile(rb"\s*<DOC(?:\s[^<>]*)?>", re.IGNORECASE)
MARKUP = re.compile(rb"\s*<(?:[?!]|/?[A-Z][\w.-]*\s*>\s*$)", re.IGNORECASE)  # may precede the first document
BOUNDARY = re.compile(rb"<(/?)DOC(?:\s[^<>]*)?>", re.IGNORECASE)
TAG = re.compile(r"<(/?)([A-Za-z][\w.:-]*)(?:\s[^<>]*|/)?>")
COMMENT = re.compile(r"<!--.*?-->|<![A-Za-z][^<>]*>|<\?[^<>]*>", re.DOTALL)
REFERENCE = re.compile(r"&(?:#(\d{1,7})|#[xX]([0-9A-Fa-f]{1,6})|([A-Za-z][A-Za-z0-9]*));")
# the end of an element that is not closed: a text, a title and an id
NEXT_TEXT = re.compile(rf"<(?:{'|'.join(TEXTS)})[\s>]", re.IGNORECASE)
NEXT_LINE = re.compile(r"\n\s*<")
NEXT_TAG = re.compile("<")
SGML_ENTITIES = {"hyph": "-", "blank": " "}  # of ISO 8879, not of HTML


class TrecDocument(NamedTuple):
    """A document before its text is extracted: its first line, its id and the markup between `<DOC>` and `</DOC>`."""

    line: int
    doc_id: str
    markup: str


def is_trec_text(line: bytes) -> bool | None:
    """Return True for the first line of a TRECTEXT file, None for markup that may precede it, else False."""
    if START.match(line):
        return True
    return None if b"\t" not in line and MARKUP.match(line) else False


def read_documents(
    lines: Numbered, name: str, fields: Fields, bad: Callable[[InputError], None]
) -> Iterator[TrecDocument]:
    """Yield the documents of a file, one in memory at a time.

    `bad` receives an InputError, with file and line, for each invalid document. Raises InputError for TRECWEB.
    """
    for number, data in _documents(lines, name, bad):
        try:
            yield _document(number, data, name, fields)
        except _TrecWebError:
            raise
        except InputError as error:
            bad(error)


def _documents(lines: Numbered, name: str, bad: Callable[[InputError], None]) -> Iterator[tuple[int, bytes]]:
    """Yield the line of the `<DOC>` and the bytes up to the `</DOC>` of each document."""
    start: int | None = None  # the line of the open <DOC>
    parts: list[bytes] = []
    for number, raw in lines:
        position = 0
        for tag in BOUNDARY.finditer(raw) if b"<" in raw else ():
            before, position = raw[position : tag.start()], tag.end()
            if start is None:
                _check_outside(before, name, number, bad)
            if tag[1] and start is None:
                bad(InputError("</DOC> without <DOC>", name, number))
            elif tag[1] and start is not None:
                yield start, b"".join([*parts, before])
                start = None
            else:
                if start is not None:
                    bad(InputError(f"<DOC> before the end of the document at {name}:{start}", name, number))
                start = number
            parts = []
        if start is not None:
            parts.append(raw[position:])
        else:
            _check_outside(raw[position:], name, number, bad)
    if start is not None:
        bad(InputError("<DOC> is not closed: the file ends inside it", name, start))


def _check_outside(data: bytes, name: str, line: int, bad: Callable[[InputError], None]) -> None:
    """Report text outside all documents; tags around them, declarations and comments are allowed."""
    if data.strip(BLANKS) and TAG.sub("", COMMENT.sub("", data.decode("latin-1"))).strip():
        bad(InputError("text outside <DOC>", name, line))


class _TrecWebError(InputError):
    """A TRECWEB corpus, whose documents are HTML pages. `--bad-lines skip` does not skip it."""

    def __init__(self, file: str, line: int) -> None:
        hint = "extract the texts of the web pages and write JSONL"
        super().__init__("a TRECWEB corpus (<DOCHDR>); its HTML is unsupported", file, line, hint=hint)


def _document(start: int, data: bytes, name: str, fields: Fields) -> TrecDocument:
    try:
        markup = data.decode("utf-8")
    except UnicodeDecodeError:
        for offset, part in enumerate(data.split(b"\n")):
            decoded(part, name, start + offset)
        raise
    ids = (fields.id_field.lower(),) if fields.id_field else IDS
    doc_id: str | None = None
    for tag in TAG.finditer(markup):
        if tag[1]:
            continue
        element = tag[2].lower()
        line = start + markup.count("\n", 0, tag.start()) if element in (*ids, "dochdr") else start
        if element == "dochdr":
            raise _TrecWebError(name, line)
        if element in ids:
            value = markup[tag.end() :].partition("<")[0].strip()
            if doc_id is not None:
                raise InputError(f"a document with two <{tag[2]}>: {doc_id} and {value}", name, line)
            if not value:
                raise InputError(f"<{tag[2]}> is empty", name, line)
            doc_id = value
    if doc_id is None:
        raise InputError(f"a document without <{ids[0].upper()}>", name, start, hint=_hint("--id-field", markup))
    return TrecDocument(start, doc_id, markup)


def _hint(option: str, markup: str) -> str:
    names = dict.fromkeys(tag[2] for tag in TAG.finditer(markup))
    return f"name the element with {option}; the document has {', '.join(list(names)[:8])}" if names else ""


def extracted(document: TrecDocument, name: str, fields: Fields) -> tuple[Document, bool]:
    """Return a document with its text and title, and whether it has a title element.

    A title element inside a text element stays part of the text. InputError if `fields` names a text element that
    the document does not have.
    """
    markup = COMMENT.sub(" ", document.markup)
    texts = _spans(markup, (fields.text_field,) if fields.text_field else TEXTS, NEXT_TEXT)
    if not texts and fields.text_field:
        message = f"document {document.doc_id} has no <{fields.text_field.upper()}>"
        raise InputError(message, name, document.line, hint=_hint("--text-field", markup))
    titles: list[tuple[int, int]] = []
    for element in (fields.title_field,) if fields.title_field else TITLES:
        spans = _spans(markup, (element,), NEXT_LINE)
        titles = [span for span in spans if not any(start <= span[0] < end for start, end in texts)]
        if titles:
            break
    if not texts:
        ids = (fields.id_field or "", *OTHER_IDS)
        texts = _between(sorted([*titles, *_spans(markup, ids, NEXT_TAG)]), len(markup))
    title = " ".join(filter(None, (_plain(markup[start:end]) for start, end in titles)))
    text = " ".join(filter(None, (_plain(markup[start:end]) for start, end in texts)))
    return Document(document.doc_id, text, title), bool(titles)


def _spans(markup: str, names: tuple[str, ...], unclosed: re.Pattern[str]) -> list[tuple[int, int]]:
    """Return where the contents of the elements begin and end. One that is not closed ends where `unclosed` matches.

    `names` are in upper or lower case.
    """
    spans: list[tuple[int, int]] = []
    elements = {name.lower() for name in names}
    tags = [tag for tag in TAG.finditer(markup) if tag[2].lower() in elements]
    following: dict[str, re.Match[str]] = {}
    next_of_name: list[re.Match[str] | None] = [None] * len(tags)
    for index in reversed(range(len(tags))):
        element = tags[index][2].lower()
        next_of_name[index] = following.get(element)
        following[element] = tags[index]
    end = 0
    for tag, same in zip(tags, next_of_name, strict=True):
        content = tag.end()
        if tag[1] or tag.start() < end:
            continue
        if same is not None and same[1]:
            end = same.start()
        else:
            follows = unclosed.search(markup, content)
            end = follows.start() if follows else len(markup)
        spans.append((content, end))
    return spans


def _between(spans: list[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    """Return the spans from 0 to `length` that are outside `spans`, which are sorted."""
    position, between = 0, []
    for start, end in spans:
        between.append((position, max(position, start)))
        position = max(position, end)
    return [*between, (position, length)]


def _plain(markup: str) -> str:
    """Return a text without tags, with its references replaced and without runs of white space."""
    return " ".join(REFERENCE.sub(_character, TAG.sub(" ", markup)).split())


def _character(reference: re.Match[str]) -> str:
    decimal, hexadecimal, name = reference.groups()
    if name:
        names = (f"{name};", f"{name.lower()};")
        known = (html.entities.html5.get(known) for known in names)
        return SGML_ENTITIES.get(name.lower()) or next(filter(None, known), reference[0])
    code = int(decimal) if decimal else int(hexadecimal, 16)
    return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else reference[0]
