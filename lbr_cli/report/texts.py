"""The texts that a page shows: of queries and documents, from the runs' own lines, and from files."""

from __future__ import annotations

from collections.abc import Sequence

from lbr_cli.core import Document, Listener
from lbr_cli.errors import InputError
from lbr_cli.evaluation.runs import Run
from lbr_cli.formats.corpus import Fields, read_corpus
from lbr_cli.formats.corpus import Texts as Wanted
from lbr_cli.formats.files import display_name
from lbr_cli.formats.queries import read_queries
from lbr_cli.report.story import Texts


def find_texts(
    runs: Sequence[Run],
    corpora: Sequence[str],
    queries: str | None,
    fields: Fields,
    depth: int,
    listener: Listener,
    *,
    named: bool,
) -> Texts:
    """The texts of all queries, and of the documents that are shown, as far as they are known.

    A text in a line counts before one in a file. Raises InputError for a file that cannot be read, and for one that has
    none of the texts, save queries that nobody has `named`.
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
        listener.stage(f"reading {display_name(queries)}")
        found = {query_id: line.query.text or "" for query_id, line in read_queries(queries).items()}
        if named and not any(query_id in found for run in runs for query_id in run.rankings):
            raise InputError("holds none of the queries of the runs", display_name(queries))
        asked = found | asked
    if corpora:
        wanted = Wanted(shown.keys() - documents.keys())
        for path in corpora:
            listener.stage(f"reading {display_name(path)}")
            read_corpus(path, wanted, fields, listener.note, _raise)
        if not documents and not wanted.documents:
            raise InputError("holds none of the documents of the runs", ", ".join(map(display_name, corpora)))
        documents |= wanted.documents
    return Texts(asked, documents)


def _raise(error: InputError) -> None:
    raise error
