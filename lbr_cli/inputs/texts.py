"""The texts of a run: of its queries from the queries file, and of its documents from the corpora."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lbr_cli.core import Document, Progress
from lbr_cli.datasets import DataSet
from lbr_cli.errors import InputError, UsageError
from lbr_cli.formats.corpus import SAMPLE, WantedDocuments, read_corpora
from lbr_cli.formats.files import STDIN, CarriageReturnError, display_name
from lbr_cli.formats.input_files import InputFiles
from lbr_cli.formats.queries import QueryLine, read_queries, table_columns
from lbr_cli.formats.similar_ids import similar, similar_document
from lbr_cli.inputs import Inputs
from lbr_cli.inputs.groups import CandidateGroup, Groups, merged
from lbr_cli.inputs.locations import Locations
from lbr_cli.wording import counted, first_few

QUERIES = "queries file"  # the name of this input in messages
QUERY_FILES = ("queries.*", "topics.*")


@dataclass(frozen=True, slots=True)
class TextSources:
    """The sources of the texts of a run: the files of `inputs`, else `dataset`. `locations` are those of its lines."""

    inputs: Inputs
    files: InputFiles
    dataset: DataSet | None
    locations: Locations
    progress: Progress


def add_query_texts(groups: Groups, sources: TextSources) -> None:
    """Add the query texts of the queries file or the data set; remove queries without one (`--missing-queries skip`).

    Raises InputError for queries without a text, depending on the policy, and if no query has one; UsageError without a
    queries file.
    """
    inputs, progress, locations = sources.inputs, sources.progress, sources.locations
    run_name = locations.name
    incomplete = [group for group in groups.values() if group.query.text is None]
    source = _read_queries(incomplete, sources)
    if source is None:
        _check_complete(inputs, run_name, bool(incomplete))
        return
    name, queries, ids = source
    for query_id, group in groups.items():
        line = queries.get(query_id)
        if line is not None and not group.implied:  # an implied id is a line number, not an id of the queries
            group.query = merged(line.query, group.query, f"{name}:{line.number}", locations.text(group.text_line))
    missing = [group for group in incomplete if group.query.text is None]
    if missing:
        ids = list(ids)
        similar_ids = similar((group.query.query_id for group in missing), ids, run_name, name)
        if len(missing) == len(groups):
            hint = _joined(f"the run has {first_few(groups)}; {name} has {first_few(ids) or 'no query'}", similar_ids)
            raise InputError(f"0 of {len(groups)} queries found in {name}", run_name, hint=hint)
        examples = first_few(f"{group.query.query_id} ({locations.short(group.lines[0])})" for group in missing)
        message = _joined(f"{len(missing)} of {len(groups)} queries have no text in {name}: {examples}", similar_ids)
        if inputs.policies.missing_queries == "error":
            hint = "--missing-queries skip leaves them out, --missing-queries keep writes them in first-stage order"
            raise InputError(message, *locations.of(missing[0].lines[0]), hint=hint)
        progress.warn(f"{run_name}: {message}")
        if inputs.policies.missing_queries == "skip":
            for group in missing:
                del groups[group.query.query_id]


def _read_queries(
    incomplete: Sequence[CandidateGroup], sources: TextSources
) -> tuple[str, Mapping[str, QueryLine], Iterable[str]] | None:
    """Return the name of the source, the queries that the run needs, and all query ids; None if no source is read.

    Queries of a data set have no lines.
    """
    inputs, dataset, progress, path = sources.inputs, sources.dataset, sources.progress, sources.inputs.queries
    wanted = {group.query.query_id for group in incomplete}
    if path is None and incomplete and dataset is not None:
        progress.status(f"reading the queries of {dataset.dataset_id}")
        texts = dataset.queries(wanted, inputs.topic_field)
        lines = {query_id: QueryLine(0, query) for query_id, query in texts.items()}
        return dataset.dataset_id, lines, dataset.query_ids()
    if path is None and incomplete and inputs.runs:
        path = queries_beside(inputs.runs, inputs.corpora, progress)
    if path is None:
        return None
    name = display_name(path)
    progress.status(f"reading {name}")
    columns, warn = inputs.query_columns, progress.warn
    stream = sources.files.open(path, QUERIES, columns=table_columns(inputs.topic_field))
    queries = read_queries(stream, inputs.topic_field, columns=columns, wanted=wanted, warn=warn)
    return name, queries, queries


def _check_complete(inputs: Inputs, run_name: str, incomplete: bool) -> None:
    """Raise UsageError if a run without a queries file is `incomplete`, or if an option needs that file."""
    if incomplete:
        message = f"{run_name} has no query texts, and there is no file queries.* or topics.* beside it"
        raise UsageError(message, hint="name the queries with --queries")
    if inputs.chosen:
        option = min(inputs.chosen).replace("_", "-")
        raise UsageError(f"--{option} has no effect: {run_name} has the query texts, and no queries file is read")


def queries_beside(runs: Sequence[str], corpora: Sequence[str], progress: Progress) -> str | None:
    """Return the file named queries.* or topics.* beside the runs, else beside the first corpus, else None.

    Raises UsageError if there are several.
    """
    others = {os.path.realpath(path) for path in (*runs, *corpora) if path != STDIN}
    for files in (runs, corpora[:1]):
        folders = {os.path.realpath(os.path.dirname(path)): os.path.dirname(path) for path in files if path != STDIN}
        patterns = (os.path.join(glob.escape(folder), name) for folder in folders.values() for name in QUERY_FILES)
        paths = [path for pattern in patterns for path in glob.glob(pattern)]
        paths = sorted(path for path in paths if os.path.isfile(path) and os.path.realpath(path) not in others)
        if len(paths) > 1:
            raise UsageError(f"several files may hold the queries: {', '.join(paths)}", hint="name one with --queries")
        if paths:
            progress.note(f"queries: {paths[0]}")
            return paths[0]
    return None


def find_documents(groups: Groups, sources: TextSources) -> Mapping[str, Document]:
    """Return the documents, by id, of the candidates without a text.

    Raises InputError for documents that are not found, depending on the policy, and if no candidate has a text;
    UsageError if there is no corpus.
    """
    inputs, dataset, progress = sources.inputs, sources.dataset, sources.progress
    wanted = {doc_id for _, doc_id in _without_text(groups)}
    if wanted and not inputs.corpora and dataset is None:
        raise UsageError(f"{inputs.run_name} has no document texts", hint="name the corpus with --corpus")
    documents = WantedDocuments(wanted)
    skipped: list[str] = []

    def bad(error: InputError) -> None:
        if inputs.policies.bad_lines == "error" or isinstance(error, CarriageReturnError):
            raise error
        skipped.append("" if skipped else str(error))

    if wanted and not inputs.corpora and dataset is not None:
        progress.status(f"reading documents of {dataset.dataset_id}")
        documents.documents = dataset.documents(wanted, inputs.fields)
        if not documents.documents:
            documents.sample = dataset.document_ids(SAMPLE)
    read_corpora(inputs.corpora, sources.files, documents, inputs.fields, progress, bad)
    if skipped:
        progress.warn(f"{skipped[0]}; {counted(len(skipped), 'line was', 'lines were')} left out")
    if len(documents.documents) < len(wanted):
        _handle_missing(groups, documents, sources)
    return documents.documents


def _without_text(groups: Groups) -> Iterator[tuple[int, str]]:
    """Yield (line, document id) for each candidate without a text whose query has one."""
    for group in groups.values():
        if group.query.text is not None:
            for line, (doc_id, candidate) in zip(group.lines, group.candidates.items(), strict=True):
                if candidate.document is None:
                    yield line, doc_id


def _handle_missing(groups: Groups, documents: WantedDocuments, sources: TextSources) -> None:
    """Warn about documents that are not found, or raise InputError."""
    inputs, locations, progress = sources.inputs, sources.locations, sources.progress
    run_name = locations.name
    corpora = ", ".join(map(display_name, inputs.corpora)) or inputs.dataset
    pairs = sorted(pair for pair in _without_text(groups) if pair[1] not in documents.documents)
    missing = len({doc_id for _, doc_id in pairs})
    wanted = missing + len(documents.documents)
    similar_ids = similar_document([doc_id for _, doc_id in pairs], inputs.corpora, inputs.fields, run_name)
    if len(pairs) == sum(len(group.candidates) for group in groups.values() if group.query.text is not None):
        ids = f"the run has {first_few(doc_id for _, doc_id in pairs)}"
        hint = _joined(f"{ids}; {corpora} has {first_few(documents.sample) or 'no document'}", similar_ids)
        raise InputError(f"0 of {wanted} documents found in {corpora}", run_name, hint=hint)
    examples = first_few(f"{doc_id} ({locations.short(line)})" for line, doc_id in pairs)
    counts = f"{missing} of {wanted} documents are not in {corpora} ({len(pairs)} pairs)"
    message = _joined(f"{counts}: {examples}", similar_ids)
    if inputs.policies.missing_docs == "error":
        hint = "--missing-docs skip leaves them out, --missing-docs last puts them at the end, unscored"
        raise InputError(message, *locations.of(pairs[0][0]), hint=hint)
    progress.warn(f"{run_name}: {message}")


def _joined(message: str, similar_ids: str) -> str:
    return f"{message}; {similar_ids}" if similar_ids else message
