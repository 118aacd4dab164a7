"""Run + queries + corpora -> rankings: everything is read, grouped, joined and checked before any model is loaded.

Lines of a query need not stand together. Finding texts is `join`'s part, reading lines that of `formats`; input that
is answered while it still comes in is `stream`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from lbr_cli.core import Candidate, Document, Listener, Query, Ranking
from lbr_cli.errors import InputError
from lbr_cli.formats import Line, RunFormat, open_lines, open_run
from lbr_cli.formats.files import display_name
from lbr_cli.inputs import Duplicates, Group, Inputs, Policies
from lbr_cli.join import find_documents, find_query_texts


@dataclass(frozen=True, slots=True)
class Collection:
    """What a job has to do. Iterating builds the rankings, each time anew, in the order of the input."""

    format: RunFormat
    duplicates: int
    _groups: Mapping[str, Group]
    _documents: Mapping[str, Document]

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[Ranking]:
        for group in self._groups.values():
            yield Ranking(group.query, tuple(self._candidates(group)))

    def _candidates(self, group: Group) -> Iterator[Candidate]:
        for doc_id, candidate in group.candidates.items():
            if candidate.document is None and doc_id in self._documents:
                document = self._documents[doc_id]
                yield Candidate(doc_id, document, candidate.score, candidate.rank, candidate.extra)
            else:
                yield candidate


def collect(inputs: Inputs, listener: Listener) -> Collection:
    """Read and check everything.

    Raises InputError for what cannot be read or joined, and UsageError where texts are needed that no option names.
    """
    name = display_name(inputs.run)
    listener.stage(f"reading {name}")
    given = None if inputs.query is None else Query("1", inputs.query)
    if inputs.lines and given is not None:
        format_, lines = open_lines(inputs.run, given)
    else:
        format_, lines = open_run(inputs.run, inputs.format, given)
    groups, duplicates = _group(lines, name, inputs.policies)
    duplicates.tell(listener)
    if not groups:
        raise InputError("holds no candidates", name)
    groups = find_query_texts(groups, inputs, listener)
    documents = find_documents(groups, inputs, listener)
    return Collection(format_, duplicates.count, groups, documents)


def _group(lines: Iterable[Line], file: str, policies: Policies) -> tuple[dict[str, Group], Duplicates]:
    groups: dict[str, Group] = {}
    duplicates = Duplicates()
    for line in lines:
        group = groups.get(line.query.query_id)
        if group is None:
            group = groups[line.query.query_id] = Group(line.query, line.number)
        if not group.add(line, file, policies):
            duplicates.note(line, file)
    return groups, duplicates
