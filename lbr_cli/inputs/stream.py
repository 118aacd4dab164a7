"""Read rankings from a stream of JSONL with texts, each as soon as it is complete, in constant memory.

A line with a whole query is complete. Lines with one pair each are complete if another query id, a blank line or the
end of the input follows.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Iterator, Mapping

from lbr_cli.core import Progress, Query, Ranking
from lbr_cli.errors import InputError
from lbr_cli.formats.files import BLANKS, without_end
from lbr_cli.formats.input_files import InputFiles
from lbr_cli.formats.jsonl import Jsonl
from lbr_cli.inputs import Inputs
from lbr_cli.inputs.groups import CandidateGroup, DuplicateCount
from lbr_cli.inputs.locations import Locations

REMEMBERED = 10_000


def stream(inputs: Inputs, files: InputFiles, progress: Progress) -> Iterator[Ranking]:
    """Yield the rankings of a stream.

    Raises InputError for an invalid line, for a query or document without a text, and for a line of one of the last
    10,000 complete queries, unless it is a whole query with the same text and instruction.
    """
    format_ = Jsonl(None if inputs.query is None else Query("1", inputs.query), inputs.fields)
    duplicates = DuplicateCount(Locations(inputs.run_name), inputs.policies.duplicates)
    # complete queries, with the number of their last line and without candidates
    answered: OrderedDict[str, CandidateGroup] = OrderedDict()
    with files.open(*inputs.runs) as lines:
        for group in _groups(lines, format_, answered, duplicates):
            group.check_texts(lines.name, ", and --stream needs it in the line")
            last = CandidateGroup(group.query, group.text_line, group.implied, lines=group.lines[-1:])
            answered[group.query.query_id] = last
            if len(answered) > REMEMBERED:
                answered.popitem(last=False)
            yield Ranking(group.query, tuple(group.candidates.values()))
    duplicates.warn(progress)


def _groups(
    lines: io.BufferedReader, format_: Jsonl, answered: Mapping[str, CandidateGroup], duplicates: DuplicateCount
) -> Iterator[CandidateGroup]:
    """Yield each group when it is complete. InputError for a query in `answered`, as in `_check_repeated`."""
    group: CandidateGroup | None = None
    for number, raw in enumerate(lines, 1):
        data = without_end(raw)
        candidates, is_end = format_.read_line(data, lines.name, number) if data.strip(BLANKS) else ([], True)
        for line in candidates:
            query_id = line.query.query_id
            if group and group.query.query_id != query_id:
                yield group
                group = None
            if group is None:
                group = CandidateGroup(line.query, number, line.implied)
                if query_id in answered:
                    _check_repeated(group, answered[query_id], is_end, lines.name)
            group.add(line, duplicates)
        if is_end and group:
            yield group
            group = None
    if group:
        yield group


def _check_repeated(group: CandidateGroup, earlier: CandidateGroup, is_whole: bool, name: str) -> None:
    """Raise InputError for a duplicate query id, unless `group` is a whole query with equal text and instruction."""
    query, number = group.query, group.text_line
    if not is_whole:
        message = f"the lines of query {query.query_id} are not adjacent: earlier ones end at line {earlier.lines[-1]}"
        raise InputError(message, name, number, hint="sort the lines by query, or omit --stream")
    if group.implied != earlier.implied or query.text != earlier.query.text:
        raise InputError(f"query {query.query_id} has another text at {name}:{earlier.text_line}", name, number)
    if query.instruction != earlier.query.instruction:
        raise InputError(f"query {query.query_id} has another instruction at {name}:{earlier.text_line}", name, number)
