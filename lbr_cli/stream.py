"""JSONL that carries its texts -> rankings, each as soon as its lines are complete, in flat memory.

A query a line is complete with its line; pairs are when the next id, a blank line or the end of the input comes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from lbr_cli.core import Progress, Query, Ranking
from lbr_cli.errors import InputError
from lbr_cli.formats.files import BLANKS, display_name, open_input, without_end
from lbr_cli.formats.jsonl import Jsonl
from lbr_cli.inputs import Duplicates, Group, Inputs

REMEMBERED = 10_000


def stream(inputs: Inputs, progress: Progress) -> Iterator[Ranking]:
    """The rankings of a stream of JSONL lines.

    Raises InputError for a line that cannot be read, a candidate without its texts, and a query id of the last
    10,000 that comes back after its group was complete.
    """
    name = display_name(inputs.run)
    format_ = Jsonl(None if inputs.query is None else Query("1", inputs.query))
    duplicates = Duplicates()
    done: OrderedDict[str, Group] = OrderedDict()
    group: Group | None = None
    with open_input(inputs.run, inputs.sums) as source:
        for number, raw in enumerate(source, 1):
            data = without_end(raw)
            if not data.strip(BLANKS):
                if group:
                    yield _complete(group, name, done)
                group = None
                continue
            lines, whole = format_.read_line(data, name, number)
            for line in lines:
                query_id = line.query.query_id
                if group and group.query.query_id != query_id:
                    yield _complete(group, name, done)
                    group = None
                if group is None:
                    group = Group(line.query, number, line.implied)
                    if query_id in done:
                        _check_again(group, done[query_id], whole, name, number)
                if not group.add(line, name, inputs.policies):
                    duplicates.note(line, name)
            if whole and group:
                yield _complete(group, name, done)
                group = None
    if group:
        yield _complete(group, name, done)
    duplicates.tell(progress)


def _check_again(group: Group, earlier: Group, whole: bool, name: str, number: int) -> None:
    """InputError for an id that comes back, but for a whole query with the same text, which is answered again."""
    if not whole:
        message = f"query {group.query.query_id} comes back: its lines ended at line {earlier.lines[-1]}"
        raise InputError(message, name, number, hint="without --stream lines may stand in any order")
    if group.implied != earlier.implied or group.query.text != earlier.query.text:
        raise InputError(f"query {group.query.query_id} has another text at {name}:{earlier.text_line}", name, number)


def _complete(group: Group, name: str, done: OrderedDict[str, Group]) -> Ranking:
    query_id = group.query.query_id
    if group.query.text is None:
        raise InputError(f"query {query_id} has no text, and --stream needs it in the line", name, group.text_line)
    for line, (doc_id, candidate) in zip(group.lines, group.candidates.items(), strict=True):
        if candidate.document is None:
            message = f"query {query_id}, document {doc_id}: no text, and --stream needs it in the line"
            raise InputError(message, name, line)
    # of what was answered, the query and its last line are remembered, and no document
    done[query_id] = Group(group.query, group.text_line, group.implied, lines=group.lines[-1:])
    if len(done) > REMEMBERED:
        done.popitem(last=False)
    return Ranking(group.query, tuple(group.candidates.values()))
