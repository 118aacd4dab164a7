"""The texts that a run names: its queries', from a file that is named or found, and its documents', from corpora."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping, Sequence

from lbr_cli.core import Document, Progress
from lbr_cli.errors import InputError, UsageError
from lbr_cli.formats.corpus import Texts, check_fields, read_corpus
from lbr_cli.formats.files import STDIN, display_name
from lbr_cli.formats.line_ends import CarriageReturnError
from lbr_cli.formats.queries import read_queries
from lbr_cli.formats.similar_ids import similar, similar_document
from lbr_cli.inputs import Group, Inputs

EXAMPLES = 5
QUERIES = "queries file"  # what messages call it


def find_query_texts(groups: dict[str, Group], inputs: Inputs, progress: Progress) -> dict[str, Group]:
    """The groups with the texts of their queries, less those that `--missing-queries skip` leaves out.

    Raises InputError for queries without a text, as the policy says, and where none has one; UsageError where there
    is no file to look in.
    """
    run_name = display_name(inputs.run)
    lacking = [group for group in groups.values() if group.query.text is None]
    path = inputs.queries
    if path is None:
        if not lacking:
            _refuse_query_options(inputs, run_name)
            return groups
        path = queries_beside(inputs.run, inputs.corpora, progress)
        if path is None:
            raise UsageError(
                f"{run_name} holds no query texts, and no file queries.* or topics.* lies beside it",
                hint="name the queries with --queries",
            )
        inputs.written.check(QUERIES, path)
    progress.status(f"reading {display_name(path)}")
    queries = read_queries(
        path,
        inputs.topic_field,
        inputs.sums,
        columns=inputs.query_columns,
        wanted={group.query.query_id for group in lacking},
        warn=progress.warn,
    )
    name = display_name(path)
    for query_id, group in groups.items():
        line = queries.get(query_id)
        if line is None or line.query.text is None or group.implied:  # a line's number is no id of a query
            continue
        if group.query.text is not None and group.query.text != line.query.text:
            raise InputError(f"query {query_id} has another text at {name}:{line.number}", run_name, group.text_line)
        group.query = line.query
    missing = [group for group in lacking if group.query.text is None]
    alike = similar((group.query.query_id for group in missing), queries, run_name, name) if missing else ""
    if len(missing) == len(groups):
        raise InputError(
            f"0 of {len(groups)} queries found in {name}",
            run_name,
            hint=_joined(f"the run has {_some(groups)}; {name} has {_some(queries) or 'no query'}", alike),
        )
    if missing:
        examples = _some(f"{group.query.query_id} (line {group.lines[0]})" for group in missing)
        message = _joined(f"{len(missing)} of {len(groups)} queries have no text in {name}: {examples}", alike)
        if inputs.policies.missing_queries == "error":
            hint = "--missing-queries skip leaves them out, --missing-queries keep writes them in first-stage order"
            raise InputError(message, run_name, missing[0].lines[0], hint=hint)
        progress.warn(f"{run_name}: {message}")
        if inputs.policies.missing_queries == "skip":
            return {query_id: group for query_id, group in groups.items() if group.query.text is not None}
    return groups


def _refuse_query_options(inputs: Inputs, run_name: str) -> None:
    """UsageError for an option about a file of queries where none is read."""
    if inputs.chosen:
        option = min(inputs.chosen).replace("_", "-")
        raise UsageError(f"--{option} has no effect: {run_name} holds the query texts, and no file of queries is read")


def queries_beside(run: str, corpora: Sequence[str], progress: Progress) -> str | None:
    """The one file named queries.* or topics.* beside the run, or else beside the first corpus.

    Raises UsageError where there are several.
    """
    named = {os.path.realpath(path) for path in (run, *corpora)}
    for beside in (run, *corpora[:1]):
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
            progress.note(f"queries: {found[0]}")
            return found[0]
    return None


class _BadLines:
    """What `--bad-lines` says about lines of a corpus that cannot be read."""

    def __init__(self, skip: bool) -> None:
        self._skip = skip
        self.count = 0
        self.first = ""

    def __call__(self, error: InputError) -> None:
        if not self._skip or isinstance(error, CarriageReturnError):
            raise error
        self.count += 1
        self.first = self.first or str(error)


def find_documents(groups: dict[str, Group], inputs: Inputs, progress: Progress) -> Mapping[str, Document]:
    """The texts that the candidates lack, by document id; forgets those that `--missing-docs skip` leaves out.

    Raises InputError for documents without a text, as the policy says, and where none has one; UsageError where
    there is no corpus to look in.
    """
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
    texts = Texts(wanted)
    bad = _BadLines(inputs.policies.bad_lines == "skip")
    read = {}
    for path in inputs.corpora:
        progress.status(f"reading {display_name(path)}")
        read[path] = read_corpus(path, texts, inputs.fields, progress.note, bad, inputs.sums)
    check_fields(inputs.fields, read, texts, progress.warn)
    if bad.count:
        what = "1 line was" if bad.count == 1 else f"{bad.count} lines were"
        progress.warn(f"{bad.first}; {what} left out")
    missing = len(wanted) - len(texts.documents)
    if missing:
        _handle_missing(groups, texts, missing, len(wanted), inputs, progress)
        if inputs.policies.missing_docs == "skip":
            _drop_missing(groups, texts)
    return texts.documents


def _handle_missing(
    groups: dict[str, Group], texts: Texts, missing: int, wanted: int, inputs: Inputs, progress: Progress
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
    alike = similar_document([doc_id for _, doc_id in pairs], inputs.corpora, inputs.fields, run_name)
    everything = sum(len(group.candidates) for group in groups.values() if group.query.text is not None)
    if len(pairs) == everything:
        there = _some(texts.sample) or "no document"
        raise InputError(
            f"0 of {wanted} documents found in {corpora}",
            run_name,
            hint=_joined(f"the run has {_some(doc_id for _, doc_id in pairs)}; {corpora} has {there}", alike),
        )
    examples = _some(f"{doc_id} (line {line})" for line, doc_id in pairs)
    message = _joined(f"{missing} of {wanted} documents are not in {corpora} ({len(pairs)} pairs): {examples}", alike)
    if inputs.policies.missing_docs == "error":
        hint = "--missing-docs skip leaves them out, --missing-docs last puts them at the end, unscored"
        raise InputError(message, run_name, pairs[0][0], hint=hint)
    progress.warn(f"{run_name}: {message}")


def _drop_missing(groups: dict[str, Group], texts: Texts) -> None:
    """Forget the candidates without a text, and the queries of which none is left."""
    for query_id, group in list(groups.items()):
        if group.query.text is None:
            continue
        for doc_id, candidate in list(group.candidates.items()):
            if candidate.document is None and doc_id not in texts.documents:
                del group.candidates[doc_id]
        if not group.candidates:
            del groups[query_id]


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _some(things: Iterable[str]) -> str:
    """The first few of them."""
    items = list(dict.fromkeys(things))
    return ", ".join(items[:EXAMPLES]) + (", …" if len(items) > EXAMPLES else "")
