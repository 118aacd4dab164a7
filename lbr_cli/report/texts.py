"""The texts that a page shows: of queries and documents, from the runs' own lines, and from files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lbr_cli.core import Document, Progress
from lbr_cli.errors import InputError
from lbr_cli.evaluation.runs import Run
from lbr_cli.formats.corpus import Fields, WantedDocuments, check_fields, read_corpus
from lbr_cli.formats.files import display_name
from lbr_cli.formats.input_files import InputFiles
from lbr_cli.formats.queries import read_queries
from lbr_cli.formats.similar_ids import similar, similar_document
from lbr_cli.report.story import Texts


@dataclass(frozen=True, slots=True)
class Chosen:
    """What options say about the files of texts; `named` means that the file of queries was named by the user."""

    fields: Fields = Fields()
    topic_field: str | None = None
    query_columns: tuple[str, ...] | None = None
    named: bool = False


def find_texts(
    runs: Sequence[Run], corpora: Sequence[str], queries: str | None, chosen: Chosen, depth: int, progress: Progress
) -> Texts:
    """The texts of all queries, and of the documents that are shown, as far as they are known.

    A text in a line counts before one in a file. Raises InputError for a file that cannot be read, and for one that has
    none of the texts, save queries that the user has not named.
    """
    asked: dict[str, str] = {}
    shown: dict[str, Document | None] = {}
    for run in runs:
        asked |= run.queries
        for query_id, ranking in run.rankings.items():
            for doc_id in ranking[:depth]:
                shown[doc_id] = shown.get(doc_id) or run.candidates[query_id][doc_id].document
    documents = {doc_id: document for doc_id, document in shown.items() if document is not None}
    if queries is not None:
        asked = _query_texts(runs, queries, chosen, progress) | asked
    if corpora:
        documents |= _documents(shown.keys() - documents.keys(), corpora, chosen.fields, progress, bool(documents))
    return Texts(asked, documents)


def _query_texts(runs: Sequence[Run], path: str, chosen: Chosen, progress: Progress) -> dict[str, str]:
    """The texts of a file of queries."""
    name = display_name(path)
    progress.status(f"reading {name}")
    needed = {query_id for run in runs for query_id in run.rankings}
    stream = InputFiles().open(path)
    lines = read_queries(stream, chosen.topic_field, columns=chosen.query_columns, wanted=needed, warn=progress.warn)
    if chosen.named and not needed & lines.keys():
        hint = similar(sorted(needed), lines, runs[0].name, name)
        raise InputError("holds none of the queries of the runs", name, hint=hint)
    return {query_id: line.query.text or "" for query_id, line in lines.items()}


def _documents(
    missing: set[str], corpora: Sequence[str], fields: Fields, progress: Progress, some: bool
) -> dict[str, Document]:
    """The documents of the corpora. InputError if none is found, unless there are `some` already."""
    wanted = WantedDocuments(missing)
    for path in corpora:
        progress.status(f"reading {display_name(path)}")
        read_corpus(InputFiles().open(path), wanted, fields, progress.note, _raise)
    check_fields(fields, wanted, progress.warn)
    if not some and not wanted.documents:
        hint = similar_document(sorted(missing), corpora, fields, "the runs")
        names = ", ".join(map(display_name, corpora))
        raise InputError("holds none of the documents of the runs", names, hint=hint)
    return wanted.documents


def _raise(error: InputError) -> None:
    raise error
