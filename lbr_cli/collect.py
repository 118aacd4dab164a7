"""Run + queries + corpora -> rankings: everything is read, grouped, joined and checked before any model is loaded.

Lines of a query need not stand together. Finding texts is `join`'s part, reading lines that of `formats`; input that
is answered while it still comes in is `stream`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lbr_cli.core import Candidate, Document, Progress, Query, Ranking
from lbr_cli.errors import InputError
from lbr_cli.formats import Line, RunFormat, open_lines, open_run
from lbr_cli.formats.files import display_name
from lbr_cli.inputs import Duplicates, Group, Inputs, Policies
from lbr_cli.join import find_documents, find_query_texts


@dataclass(frozen=True, slots=True)
class Collection:
    """What a job has to do: its rankings, in the order of the input, and what was noticed on the way."""

    format: RunFormat
    duplicates: int
    rankings: Sequence[Ranking]

    def __len__(self) -> int:
        return len(self.rankings)

    def __iter__(self) -> Iterator[Ranking]:
        return iter(self.rankings)


def collect(inputs: Inputs, progress: Progress) -> Collection:
    """Read and check everything.

    Raises InputError for what cannot be read or joined, and UsageError where texts are needed that no option names.
    """
    name = display_name(inputs.run)
    progress.status(f"reading {name}")
    given = None if inputs.query is None else Query("1", inputs.query)
    if inputs.lines and given is not None:
        format_, lines = open_lines(inputs.run, given, progress.warn, inputs.sums)
    else:
        format_, lines = open_run(inputs.run, inputs.format, given, inputs.sums)
    groups, duplicates = _group(lines, name, inputs.policies)
    duplicates.tell(progress)
    if not groups:
        raise InputError("holds no candidates", name)
    groups = find_query_texts(groups, inputs, progress)
    documents = find_documents(groups, inputs, progress)
    # each group goes as its ranking comes, so that the two never stand side by side in memory
    rankings = [_ranking(groups.pop(query_id), documents) for query_id in list(groups)]
    return Collection(format_, duplicates.count, rankings)


def _ranking(group: Group, documents: Mapping[str, Document]) -> Ranking:
    return Ranking(
        group.query,
        [
            candidate
            if candidate.document is not None or doc_id not in documents
            else Candidate(doc_id, documents[doc_id], candidate.score, candidate.rank, candidate.extra)
            for doc_id, candidate in group.candidates.items()
        ],
    )


def _group(lines: Iterable[Line], file: str, policies: Policies) -> tuple[dict[str, Group], Duplicates]:
    groups: dict[str, Group] = {}
    duplicates = Duplicates()
    for line in lines:
        group = groups.get(line.query.query_id)
        if group is None:
            group = groups[line.query.query_id] = Group(line.query, line.number, line.implied)
        if not group.add(line, file, policies):
            duplicates.note(line, file)
    return groups, duplicates
