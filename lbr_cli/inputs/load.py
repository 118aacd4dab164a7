"""Load a run with its queries and documents: everything is read and checked before any model is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lbr_cli.core import Candidate, Document, Progress, Query, Ranking
from lbr_cli.datasets import DataSet, load_dataset
from lbr_cli.errors import InputError
from lbr_cli.formats import Line, RunFormat, parse_run
from lbr_cli.formats.input_files import InputFiles
from lbr_cli.formats.lines import PlainLines
from lbr_cli.formats.trec import Trec
from lbr_cli.inputs import Inputs
from lbr_cli.inputs.groups import CandidateGroup, DuplicateCount
from lbr_cli.inputs.texts import TextSources, add_query_texts, find_documents


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """The rankings of a run, in the order of their first lines, and the number of duplicate pairs."""

    format: RunFormat
    duplicates: int
    rankings: Sequence[Ranking]


def load_run(inputs: Inputs, files: InputFiles, progress: Progress) -> LoadedRun:
    """Read and check all input. The lines of a query can be anywhere in the run.

    Raises InputError for invalid input, and UsageError for texts that no option names a file for.
    """
    name = inputs.run_name
    progress.status(f"reading {name}")
    dataset = load_dataset(inputs.dataset) if inputs.dataset is not None else None
    format_, lines = _parse(inputs, files, dataset, progress)
    duplicates = DuplicateCount(name, inputs.policies.duplicates)
    groups: dict[str, CandidateGroup] = {}
    for line in lines:
        group = groups.get(line.query.query_id)
        if group is None:
            group = groups[line.query.query_id] = CandidateGroup(line.query, line.number, line.implied)
        group.add(line, duplicates)
    duplicates.warn(progress)
    if not groups:
        raise InputError("holds no candidates", name)
    texts = TextSources(inputs, files, dataset, progress)
    add_query_texts(groups, texts)
    documents = find_documents(groups, texts)
    skip = inputs.policies.missing_docs == "skip"
    # each group is removed when its ranking is built, so that memory never holds both of all queries
    rankings = (_ranking(groups.pop(query_id), documents, skip) for query_id in list(groups))
    return LoadedRun(format_, duplicates.count, [ranking for ranking in rankings if ranking.candidates])


def _parse(
    inputs: Inputs, files: InputFiles, dataset: DataSet | None, progress: Progress
) -> tuple[RunFormat, Iterator[Line]]:
    if inputs.run is None:
        if dataset is None:
            raise ValueError("neither a run nor a data set")
        return Trec(), dataset.candidates()
    query = None if inputs.query is None else Query("1", inputs.query)
    stream = files.open(inputs.run, exact=inputs.lines)
    if inputs.lines and query is not None:
        format_ = PlainLines(query, progress.warn)
        return format_, format_.read(enumerate(stream, 1), stream.name)
    has_fields = bool(inputs.fields.chosen) and not inputs.corpora and dataset is None
    return parse_run(stream, inputs.format, query, inputs.part, inputs.fields.of_candidates if has_fields else None)


def _ranking(group: CandidateGroup, documents: Mapping[str, Document], skip: bool) -> Ranking:
    """Return the ranking of a group with the texts of its documents; with `skip`, without candidates that have no text.

    A query without a text keeps all candidates: none of them is scored, and their texts are not read.
    """
    skip = skip and group.query.text is not None
    candidates = []
    for doc_id, candidate in group.candidates.items():
        if candidate.document is None and (document := documents.get(doc_id)) is not None:
            # the id of the document is shared by all queries; that of the line is freed
            candidate = Candidate(document.doc_id, document, candidate.score, candidate.rank, candidate.extra)
        if candidate.document is not None or not skip:
            candidates.append(candidate)
    return Ranking(group.query, candidates)
