"""Run + queries + corpora -> rankings: read, group, join and check, before any model is loaded.

Lines of a query need not stand together. The corpus is read once and only what the run names stays in memory. What
a run line without a text gets is decided here, by the user's `Policies`; how lines are read is `formats`' business.
"""

from __future__ import annotations

import glob
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from lbr_cli.core import Candidate, Document, Listener, Query, Ranking
from lbr_cli.errors import InputError, UsageError
from lbr_cli.formats import Line, RunFormat, open_run
from lbr_cli.formats.corpus import Fields, Texts, read_corpus
from lbr_cli.formats.files import STDIN, display_name
from lbr_cli.formats.queries import read_queries

EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Policies:
    """What happens to input that is not as it should be."""

    missing_docs: Literal["error", "skip", "last"] = "error"
    missing_queries: Literal["error", "skip", "keep"] = "error"
    duplicates: Literal["warn", "error"] = "warn"
    bad_lines: Literal["error", "skip"] = "error"


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that a job reads. Paths; `-` is standard input; `queries` None looks beside the run."""

    run: str
    corpora: tuple[str, ...] = ()
    queries: str | None = None
    format: RunFormat | None = None
    fields: Fields = Fields()
    policies: Policies = Policies()


@dataclass(slots=True)
class _Group:
    """The candidates of one query as they were read, and the line that each stands in."""

    query: Query
    text_line: int
    candidates: dict[str, Candidate] = field(default_factory=dict)
    lines: array[int] = field(default_factory=lambda: array("Q"))

    def line_of(self, doc_id: str) -> int:
        return self.lines[list(self.candidates).index(doc_id)]


@dataclass(frozen=True, slots=True)
class Collection:
    """What a job has to do. Iterating builds the rankings, each time anew, in the order of the input."""

    format: RunFormat
    _groups: Mapping[str, _Group]
    _documents: Mapping[str, Document]

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[Ranking]:
        for group in self._groups.values():
            yield Ranking(group.query, tuple(self._candidates(group)))

    def _candidates(self, group: _Group) -> Iterator[Candidate]:
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
    run_name = display_name(inputs.run)
    listener.stage(f"reading {run_name}")
    format_, lines = open_run(inputs.run, inputs.format)
    groups = _group(lines, run_name, inputs.policies, listener)
    if not groups:
        raise InputError("holds no candidates", run_name)
    groups = _with_query_texts(groups, inputs, listener)
    documents = _read_corpora(groups, inputs, listener)
    return Collection(format_, groups, documents)


def _group(lines: Iterable[Line], file: str, policies: Policies, listener: Listener) -> dict[str, _Group]:
    groups: dict[str, _Group] = {}
    doc_ids: dict[str, str] = {}  # one string for each document, however many queries name it
    duplicates = 0
    first_duplicate = ""
    for number, query, candidate in lines:
        group = groups.get(query.query_id)
        if group is None:
            group = groups[query.query_id] = _Group(query, number)
        elif query.text is not None and query.text != group.query.text:
            if group.query.text is not None:
                message = f"query {query.query_id} has another text at {file}:{group.text_line}"
                raise InputError(message, file, number)
            group.query, group.text_line = query, number
        doc_id = doc_ids.setdefault(candidate.doc_id, candidate.doc_id)
        known = group.candidates.setdefault(doc_id, candidate)
        if known is candidate:
            group.lines.append(number)
            continue
        pair = f"query {query.query_id}, document {doc_id}"
        if candidate.document and known.document and candidate.document != known.document:
            raise InputError(f"{pair}: another text stands at {file}:{group.line_of(doc_id)}", file, number)
        if policies.duplicates == "error":
            raise InputError(f"{pair}: stands already at {file}:{group.line_of(doc_id)}", file, number)
        if known.document is None and candidate.document is not None:
            group.candidates[doc_id] = Candidate(doc_id, candidate.document, known.score, known.rank, known.extra)
        duplicates += 1
        first_duplicate = first_duplicate or f"{file}:{number}: {pair}"
    if duplicates:
        what = "1 line repeats a pair" if duplicates == 1 else f"{duplicates} lines repeat a pair"
        listener.warn(f"{first_duplicate}: stands already further up; {what}, which is scored and written once")
    return groups


def _with_query_texts(groups: dict[str, _Group], inputs: Inputs, listener: Listener) -> dict[str, _Group]:
    run_name = display_name(inputs.run)
    lacking = [group for group in groups.values() if group.query.text is None]
    path = inputs.queries
    if path is None:
        if not lacking:
            return groups
        path = _queries_beside(inputs)
        listener.note(f"queries: {path}")
    listener.stage(f"reading {display_name(path)}")
    queries = read_queries(path)
    name = display_name(path)
    for query_id, group in groups.items():
        line = queries.get(query_id)
        if line is None:
            continue
        if group.query.text is not None and group.query.text != line.query.text:
            raise InputError(f"query {query_id} has another text at {name}:{line.number}", run_name, group.text_line)
        group.query = line.query
    missing = [group for group in lacking if group.query.text is None]
    if len(missing) == len(groups):
        raise InputError(
            f"0 of {len(groups)} queries found in {name}",
            run_name,
            hint=f"the run has {_some(groups)}; {name} has {_some(queries) or 'no query'}",
        )
    if missing:
        message = f"{len(missing)} of {len(groups)} queries have no text in {name}: " + _some(
            f"{group.query.query_id} (line {group.lines[0]})" for group in missing
        )
        if inputs.policies.missing_queries == "error":
            hint = "--missing-queries skip leaves them out, --missing-queries keep writes them in first-stage order"
            raise InputError(message, run_name, missing[0].lines[0], hint=hint)
        listener.warn(f"{run_name}: {message}")
        if inputs.policies.missing_queries == "skip":
            return {query_id: group for query_id, group in groups.items() if group.query.text is not None}
    return groups


def _queries_beside(inputs: Inputs) -> str:
    """The one file named queries.* or topics.* beside the run, or else beside the first corpus."""
    named = {os.path.realpath(path) for path in (inputs.run, *inputs.corpora)}
    for beside in (inputs.run, *inputs.corpora[:1]):
        if beside == STDIN:
            continue
        folder = glob.escape(os.path.dirname(beside))
        found = sorted(
            path
            for pattern in ("queries.*", "topics.*")
            for path in glob.glob(os.path.join(folder, pattern))
            if os.path.realpath(path) not in named and os.path.isfile(path)
        )
        if len(found) > 1:
            raise UsageError(f"several files may hold the queries: {', '.join(found)}", hint="name one with --queries")
        if found:
            return found[0]
    raise UsageError(
        f"{display_name(inputs.run)} holds no query texts, and no file queries.* or topics.* lies beside it",
        hint="name the queries with --queries",
    )


class _BadLines:
    """What `--bad-lines` says about lines of a corpus that cannot be read."""

    def __init__(self, skip: bool) -> None:
        self._skip = skip
        self.count = 0
        self.first = ""

    def __call__(self, error: InputError) -> None:
        if not self._skip:
            raise error
        self.count += 1
        self.first = self.first or str(error)


def _read_corpora(groups: dict[str, _Group], inputs: Inputs, listener: Listener) -> Mapping[str, Document]:
    run_name = display_name(inputs.run)
    wanted = {
        doc_id
        for group in groups.values()
        if group.query.text is not None
        for doc_id, candidate in group.candidates.items()
        if candidate.document is None
    }
    if wanted and not inputs.corpora:
        raise UsageError(f"{run_name} holds no document texts", hint="name the corpus with --corpus")
    texts = Texts()
    bad = _BadLines(inputs.policies.bad_lines == "skip")
    for path in inputs.corpora:
        listener.stage(f"reading {display_name(path)}")
        read_corpus(path, wanted, texts, inputs.fields, listener.note, bad)
    if bad.count:
        what = "1 line was" if bad.count == 1 else f"{bad.count} lines were"
        listener.warn(f"{bad.first}; {what} left out")
    missing = len(wanted) - len(texts.documents)
    if missing:
        _handle_missing(groups, texts, missing, len(wanted), inputs, listener)
        if inputs.policies.missing_docs == "skip":
            _drop_missing(groups, texts)
    return texts.documents


def _handle_missing(
    groups: dict[str, _Group], texts: Texts, missing: int, wanted: int, inputs: Inputs, listener: Listener
) -> None:
    run_name = display_name(inputs.run)
    corpora = ", ".join(map(display_name, inputs.corpora))
    pairs = [
        (line, doc_id)
        for group in groups.values()
        if group.query.text is not None
        for line, (doc_id, candidate) in zip(group.lines, group.candidates.items(), strict=True)
        if candidate.document is None and doc_id not in texts.documents
    ]
    pairs.sort()
    everything = sum(len(group.candidates) for group in groups.values() if group.query.text is not None)
    if len(pairs) == everything:
        there = _some(texts.sample) or "no document"
        raise InputError(
            f"0 of {wanted} documents found in {corpora}",
            run_name,
            hint=f"the run has {_some(doc_id for _, doc_id in pairs)}; {corpora} has {there}",
        )
    examples = _some(f"{doc_id} (line {line})" for line, doc_id in pairs)
    message = f"{missing} of {wanted} documents are not in {corpora} ({len(pairs)} pairs): {examples}"
    if inputs.policies.missing_docs == "error":
        hint = "--missing-docs skip leaves them out, --missing-docs last puts them at the end, unscored"
        raise InputError(message, run_name, pairs[0][0], hint=hint)
    listener.warn(f"{run_name}: {message}")


def _drop_missing(groups: dict[str, _Group], texts: Texts) -> None:
    """Forget the candidates without a text, and the queries of which none is left."""
    for query_id, group in list(groups.items()):
        if group.query.text is None:
            continue
        for doc_id, candidate in list(group.candidates.items()):
            if candidate.document is None and doc_id not in texts.documents:
                del group.candidates[doc_id]
        if not group.candidates:
            del groups[query_id]


def _some(things: Iterable[str]) -> str:
    """The first few of them."""
    items = list(dict.fromkeys(things))
    return ", ".join(items[:EXAMPLES]) + (", …" if len(items) > EXAMPLES else "")
