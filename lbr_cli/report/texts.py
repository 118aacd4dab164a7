"""The texts of queries and documents on the page, from the lines of the runs and from files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lbr_cli.core import Document, Progress
from lbr_cli.datasets import DataSet
from lbr_cli.errors import InputError
from lbr_cli.evaluation.runs import Run
from lbr_cli.formats.corpus import WantedDocuments, read_corpora
from lbr_cli.formats.fields import Fields
from lbr_cli.formats.files import display_name
from lbr_cli.formats.input_files import InputFiles
from lbr_cli.formats.queries import read_queries, table_columns
from lbr_cli.formats.similar_ids import similar, similar_document
from lbr_cli.report.page_data import Texts


@dataclass(frozen=True, slots=True)
class TextFileOptions:
    """How to read the files of texts. `dataset` has the texts for which there is no file.

    With `needs_queries`, a file without any query of the runs is an error.
    """

    fields: Fields = Fields()
    topic_field: str | None = None
    query_columns: tuple[str, ...] | None = None
    dataset: DataSet | None = None
    needs_queries: bool = False


def find_texts(
    runs: Sequence[Run],
    corpora: Sequence[str],
    queries: str | None,
    options: TextFileOptions,
    depth: int,
    progress: Progress,
) -> Texts:
    """Return the known texts of all queries, and of the first `depth` documents of each run.

    A text in a line of a run takes precedence over one in a file. Raises InputError for a file that cannot be read, and
    for files that hold none of the texts, unless the queries are optional or the runs have some documents.
    """
    dataset = options.dataset
    query_texts: dict[str, str] = {}
    shown: dict[str, Document | None] = {}
    for run in runs:
        query_texts |= run.queries
        for query_id, ranking in run.rankings.items():
            for doc_id in ranking[:depth]:
                shown[doc_id] = shown.get(doc_id) or run.candidates[query_id][doc_id].document
    documents = {doc_id: document for doc_id, document in shown.items() if document is not None}
    if queries is not None:
        query_texts = _read_queries(runs, queries, options, progress) | query_texts
    elif dataset is not None and dataset.has("queries"):
        ids = {query_id for run in runs for query_id in run.rankings}
        known = dataset.queries(ids, options.topic_field)
        query_texts = {query_id: query.text or "" for query_id, query in known.items()} | query_texts
    missing = shown.keys() - documents.keys()
    if not corpora and missing and dataset is not None and dataset.has("docs"):
        documents |= dataset.documents(missing, options.fields)
    if corpora:
        documents |= _read_documents(missing, corpora, options.fields, progress, needed=not documents)
    return Texts(query_texts, documents)


def _read_queries(runs: Sequence[Run], path: str, options: TextFileOptions, progress: Progress) -> dict[str, str]:
    """Return the texts of the queries of the runs in a file. InputError if the file has none and one is needed."""
    name = display_name(path)
    progress.status(f"reading {name}")
    needed = {query_id for run in runs for query_id in run.rankings}
    stream = InputFiles().open(path, columns=table_columns(options.topic_field))
    columns = options.query_columns
    lines = read_queries(stream, options.topic_field, columns=columns, wanted=needed, warn=progress.warn)
    if options.needs_queries and not needed & lines.keys():
        hint = similar(sorted(needed), lines, runs[0].name, name)
        raise InputError("holds none of the queries of the runs", name, hint=hint)
    return {query_id: line.query.text or "" for query_id, line in lines.items()}


def _read_documents(
    missing: set[str], corpora: Sequence[str], fields: Fields, progress: Progress, *, needed: bool
) -> dict[str, Document]:
    """Return the missing documents that are in the corpora. InputError if none is and one is `needed`."""
    wanted = WantedDocuments(missing)
    read_corpora(corpora, InputFiles(), wanted, fields, progress, _raise)
    if needed and not wanted.documents:
        hint = similar_document(sorted(missing), corpora, fields, "the runs")
        names = ", ".join(map(display_name, corpora))
        raise InputError("holds none of the documents of the runs", names, hint=hint)
    return wanted.documents


def _raise(error: InputError) -> None:
    raise error
