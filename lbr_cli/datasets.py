"""Data sets of ir_datasets: queries, documents, candidates (`scoreddocs`) and judgments by the id of the data set.

Documents are looked up in the document store of ir_datasets, which reads only the wanted ones. ir_datasets downloads
what is missing, builds the store at its first use, and reports both on stderr.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lbr_cli.core import Candidate, Document, Query
from lbr_cli.errors import InputError, LbrError, MissingError, RunError, UsageError, first_line
from lbr_cli.formats import Line
from lbr_cli.formats.fields import TEXTS, Fields
from lbr_cli.formats.qrels import Qrel
from lbr_cli.formats.topics import FIELDS as TOPIC_FIELDS

INSTALL = "pip install 'lbr-cli[datasets]'"
QUERY_TEXTS = ("text", "query", "title")
# the errors of ir_datasets for a failed download, a missing or damaged file, and a full disk
FAILURES = (OSError, RuntimeError, ValueError, LookupError, AssertionError)

Part = Literal["docs", "queries", "scoreddocs", "qrels"]


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set by its id; `version` is that of ir_datasets, whose releases do not change a data set."""

    dataset_id: str
    version: str
    _handler: Any

    def has(self, part: Part) -> bool:
        return bool(self._handler.has(part))

    def queries(self, wanted: Collection[str], topic_field: str | None = None) -> dict[str, Query]:
        """Return the wanted queries by id. `topic_field` is the field of the text; default: `default_text()`."""
        cls = self._part("queries").queries_cls()
        field = None if topic_field is None else _query_field(cls, topic_field, self.dataset_id)
        queries: dict[str, Query] = {}
        with self._reading():
            for query in self._handler.queries_iter():
                if query.query_id in wanted:
                    text = getattr(query, field) if field else _text(query, QUERY_TEXTS)
                    queries[query.query_id] = Query(query.query_id, self._checked(text, "query", query.query_id))
        return queries

    def query_ids(self) -> Iterator[str]:
        """Yield the ids of all queries."""
        with self._reading():
            for query in self._part("queries").queries_iter():
                yield query.query_id

    def documents(self, wanted: Collection[str], fields: Fields) -> dict[str, Document]:
        """Return the wanted documents that the store has, by id.

        The text is the field of `--text-field`, or else `default_text()`; if that begins with the title, the title is
        separate.
        """
        cls = self._part("docs").docs_cls()
        text_field, title_field = fields.text_field, fields.title_field
        for option, name in (("--text-field", text_field), ("--title-field", title_field)):
            if name is not None and name not in cls._fields:
                raise _no_field(option, name, cls, f"documents of {self.dataset_id}")
        documents: dict[str, Document] = {}
        with self._reading():
            for doc_id, document in self._handler.docs_store().get_many(list(wanted)).items():
                text, title = _document_text(document, text_field, title_field)
                checked = (self._checked(value, "document", doc_id) for value in (text, title))
                documents[doc_id] = Document(doc_id, *checked)
        return documents

    def document_ids(self, limit: int) -> list[str]:
        """Return the ids of the first documents."""
        with self._reading():
            return [document.doc_id for document in itertools.islice(self._part("docs").docs_iter(), limit)]

    def candidates(self) -> Iterator[Line]:
        """Yield the `scoreddocs`, numbered from 1. NaN means no score. InputError for an infinite score."""
        handler = self._part("scoreddocs")
        with self._reading():
            for number, scored in enumerate(handler.scoreddocs_iter(), 1):
                score = getattr(scored, "score", None)
                score = None if score is None or math.isnan(score) else float(score)
                if score is not None and not math.isfinite(score):
                    raise InputError(f"the score is {score}", f"{self.dataset_id} scoreddocs", number)
                yield Line(number, Query(scored.query_id), Candidate(scored.doc_id, score=score))

    def judgments(self) -> Iterator[tuple[int, Qrel]]:
        """Yield the qrels, numbered from 1."""
        handler = self._part("qrels")
        with self._reading():
            for number, qrel in enumerate(handler.qrels_iter(), 1):
                yield number, Qrel(qrel.query_id, qrel.doc_id, int(qrel.relevance))

    def _part(self, part: Part) -> Any:
        if not self.has(part):
            names: tuple[Part, ...] = ("docs", "queries", "scoreddocs", "qrels")
            has = ", ".join(name for name in names if self.has(name)) or "none of docs, queries, scoreddocs and qrels"
            hints = {
                "docs": "name the corpus with --corpus",
                "queries": "name the queries with --queries",
                "scoreddocs": "name a run, or - for standard input",
                "qrels": "name the judgments with --qrels",
            }
            raise UsageError(f"--dataset {self.dataset_id}: no {part}; it has {has}", hint=hints[part])
        return self._handler

    def _checked(self, value: Any, noun: str, id_: str) -> str:
        if not isinstance(value, str):
            message = f"{noun} {id_}: the text has to be a string, not {type(value).__name__}"
            raise InputError(message, self.dataset_id, hint="choose another field with --text-field or --topic-field")
        return value

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Convert the errors of ir_datasets in this block to LbrError."""
        option = f"--dataset {self.dataset_id}"
        try:
            with _quiet_standard_streams():
                yield
        except LbrError:
            raise
        except EOFError as error:
            hint = f"download it first: ir_datasets export {self.dataset_id} queries > /dev/null"
            raise UsageError(f"{option}: the download needs a user name and a password", hint=hint) from error
        except ImportError as error:
            raise MissingError(f"{option}: {first_line(error)}", hint=INSTALL) from error
        except FAILURES as error:
            raise RunError(f"{option}: cannot be read: {first_line(error)}") from error


def load_dataset(dataset_id: str) -> DataSet:
    """Return the data set with this id. MissingError without ir_datasets, UsageError for an unknown id."""
    try:
        import ir_datasets
    except ImportError as error:
        raise MissingError(f"--dataset {dataset_id}: ir_datasets is not installed", hint=INSTALL) from error
    try:
        with _quiet_standard_streams():
            handler = ir_datasets.load(dataset_id)
    except KeyError as error:
        hint = "see https://ir-datasets.com, or run: ir_datasets list"
        raise UsageError(f"--dataset {dataset_id}: unknown data set", hint=hint) from error
    return DataSet(dataset_id, ir_datasets.__version__, handler)


@contextlib.contextmanager
def _quiet_standard_streams() -> Iterator[None]:
    """Keep ir_datasets from writing results to stdout, and from asking for a password on stdin."""
    stdin, sys.stdin = sys.stdin, io.StringIO()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stdin = stdin


def _document_text(document: Any, text_field: str | None, title_field: str | None) -> tuple[Any, Any]:
    """Return the text and the title of a document."""
    title = getattr(document, title_field or "title", None)
    title = "" if title is None else title
    if text_field is not None:
        return getattr(document, text_field), title if title_field or text_field != "title" else ""
    if not title or title_field is not None:
        return _text(document, TEXTS), title
    text = _text(document, TEXTS)
    rest = text[len(title) :] if isinstance(text, str) and text.startswith(title) else None
    if rest is not None and (not rest or rest[0].isspace()):
        return rest.lstrip(), title
    # default_text() may hold the title at another position, so the title is not added to it
    return text, "" if hasattr(document, "default_text") else title


def _text(record: Any, names: Collection[str]) -> Any:
    """Return `default_text()` of a record, or else its first field of these names that has a text."""
    fields: Mapping[str, Any] = record._asdict()
    known: Callable[[], Any] | None = getattr(record, "default_text", None)
    if known is not None and None not in (fields.get("title", ""), *(fields.get(name, "") for name in names)):
        return known()
    return next((fields[name] for name in names if isinstance(fields.get(name), str)), None)


def _query_field(cls: Any, topic_field: str, dataset_id: str) -> str:
    """Return the field that `--topic-field` names, itself or as a field of TREC topics. UsageError if there is none."""
    names = (topic_field, *TOPIC_FIELDS.get(topic_field.lower(), ()))
    field = next((name for name in names if name in cls._fields), None)
    if field is None:
        raise _no_field("--topic-field", topic_field, cls, f"queries of {dataset_id}")
    return field


def _no_field(option: str, name: str, cls: Any, records: str) -> UsageError:
    return UsageError(f"{option} {name}: no such field", hint=f"the {records} have {', '.join(cls._fields)}")
