"""Load a run with its queries and documents: everything is read and checked before any model is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lbr_cli.core import Candidate, Document, Progress, Query, Ranking
from lbr_cli.datasets import DataSet, load_dataset
from lbr_cli.errors import InputError, UsageError
from lbr_cli.formats import Line, RunFormat, parse_run
from lbr_cli.formats.fields import DEFAULT_FIELDS
from lbr_cli.formats.files import display_name
from lbr_cli.formats.input_files import InputFiles
from lbr_cli.formats.jsonl import Jsonl
from lbr_cli.formats.lines import PlainLines
from lbr_cli.formats.training import Training
from lbr_cli.formats.trec import Trec
from lbr_cli.inputs import Inputs
from lbr_cli.inputs.fusion import Fusion
from lbr_cli.inputs.groups import CandidateGroup, DuplicateCount, Groups
from lbr_cli.inputs.locations import Locations
from lbr_cli.inputs.texts import TextSources, add_query_texts, find_documents
from lbr_cli.wording import counted


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """The rankings of a run, in the order of their first lines, and the number of duplicate pairs.

    Several runs are fused into one.
    """

    format: RunFormat
    duplicates: int
    rankings: Sequence[Ranking]


def load_run(inputs: Inputs, files: InputFiles, progress: Progress) -> LoadedRun:
    """Read and check all input. The lines of a query can be anywhere in the run.

    Raises InputError for invalid input, and UsageError if no option names the file of missing texts.
    """
    dataset = load_dataset(inputs.dataset) if inputs.dataset is not None else None
    runs = _read_runs(inputs, files, dataset, progress)
    sources = TextSources(inputs, files, dataset, runs.locations, progress)
    add_query_texts(runs.groups, sources)
    documents = find_documents(runs.groups, sources)
    return _with_rankings(runs, documents, skip=inputs.policies.missing_docs == "skip")


def load_candidates(inputs: Inputs, files: InputFiles, progress: Progress) -> LoadedRun:
    """Read and check the runs, without files of queries and documents."""
    return _with_rankings(_read_runs(inputs, files, None, progress), {}, skip=False)


@dataclass(frozen=True, slots=True)
class _Runs:
    """The candidates of all runs by query, the number of duplicate pairs, and the locations of the lines."""

    format: RunFormat
    duplicates: int
    groups: Groups
    locations: Locations


def _read_runs(inputs: Inputs, files: InputFiles, dataset: DataSet | None, progress: Progress) -> _Runs:
    """Read the runs, and fuse several. The format of runs in different formats is JSONL."""
    fusion = Fusion(inputs.fuse_k)
    formats: dict[str, RunFormat] = {}
    start = count = 0
    for path in inputs.runs or (None,):
        name = inputs.run_name if path is None else display_name(path)
        progress.status(f"reading {name}")
        format_, lines = _parse(path, inputs, files, dataset, progress)
        formats[format_.name] = format_
        duplicates = DuplicateCount(Locations(name), inputs.policies.duplicates)
        groups: Groups = {}
        number = 0
        for line in lines:
            number = line.number
            group = groups.get(line.query.query_id)
            if group is None:
                group = groups[line.query.query_id] = CandidateGroup(line.query, number, line.implied)
            group.add(line, duplicates)
        duplicates.warn(progress)
        count += duplicates.count
        if not any(group.candidates for group in groups.values()):
            raise InputError("holds no candidates", name)
        if len(inputs.runs) <= 1:
            return _Runs(format_, count, groups, duplicates.locations)
        if format_.name == Training.name:
            raise UsageError(f"{name} is training data, which cannot be fused with another run")
        fusion.add(groups, name, start)
        start += number
    groups = fusion.fused()
    if fusion.partial:
        progress.note(f"{fusion.partial} of {counted(len(groups), 'query', 'queries')} not in every run")
    return _Runs(format_ if len(formats) == 1 else Jsonl(), count, groups, fusion.locations)


def _parse(
    path: str | None, inputs: Inputs, files: InputFiles, dataset: DataSet | None, progress: Progress
) -> tuple[RunFormat, Iterator[Line]]:
    """Return the format and the lines of the run at `path`, or of the data set if `path` is None."""
    if path is None:
        if dataset is None:
            raise ValueError("neither a run nor a data set")
        return Trec(), dataset.candidates()
    query = None if inputs.query is None else Query("1", inputs.query)
    stream = files.open(path, exact=inputs.lines)
    if inputs.lines and query is not None:
        format_ = PlainLines(query, progress.warn)
        return format_, format_.read(enumerate(stream, 1), stream.name)
    fields = DEFAULT_FIELDS if inputs.corpora or dataset is not None else inputs.fields
    return parse_run(stream, inputs.format, query, inputs.part, fields)


def _with_rankings(runs: _Runs, documents: Mapping[str, Document], *, skip: bool) -> LoadedRun:
    """Return the runs with their groups as rankings. Empty rankings are left out, unless training data has them."""
    groups = runs.groups
    # each group is removed when its ranking is built, so that memory never holds all groups and all rankings
    rankings = (_ranking(groups.pop(query_id), documents, skip) for query_id in list(groups))
    kept = [ranking for ranking in rankings if ranking.candidates or ranking.query.record is not None]
    return LoadedRun(runs.format, runs.duplicates, kept)


def _ranking(group: CandidateGroup, documents: Mapping[str, Document], skip: bool) -> Ranking:
    """Return the ranking of a group with the texts of its documents; with `skip`, without candidates that have no text.

    A query without a text keeps all candidates: none of them is scored, and their texts are not read.
    """
    skip = skip and group.query.text is not None
    candidates = []
    for doc_id, candidate in group.candidates.items():
        if candidate.document is None and (document := documents.get(doc_id)) is not None:
            # all queries share the id of the document, and the id of the line is freed
            candidate = Candidate(document.doc_id, document, candidate.score, candidate.rank, candidate.extra)
        if candidate.document is not None or not skip:
            candidates.append(candidate)
    return Ranking(group.query, candidates)
