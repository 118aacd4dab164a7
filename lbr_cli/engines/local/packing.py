"""The plan of packed rows: which prompts share a prefix, and the index of each token. Pure, without torch.

Prompts that begin alike form a *group*. The tokens that all of them share are the group's *prefix*, which is read once;
the prompts' other tokens follow it in one row, end to end. In that row attention is computed *segment* by segment: a
segment holds prompts of similar length that share the same part of the same prefix, or it is a prefix itself.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from lbr_cli.core import Request
from lbr_cli.engines.prompts import Prompt

SIMILAR = 1.25  # prompts whose lengths differ by no more share a segment, the shorter ones padded


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Prompts that begin alike, by the tokens that all of them share."""

    prefix: Sequence[int]


class Member(NamedTuple):
    """A prompt of a group, which attends to the first `shared` tokens of the prefix.

    `size` is how many tokens of a row it takes; for the first prompt of a group this includes the prefix.
    """

    prompt: Prompt
    group: Group
    shared: int
    size: int

    @property
    def request(self) -> Request:
        return self.prompt.request


class Segment(NamedTuple):
    """Prompts that share one call of attention, or one prefix.

    `spans` are their own tokens in the row. They also attend to the first `shared` tokens of a prefix, which is at
    `prefix` in the same row; None means the prefix carried over from the row before. `outputs` are the numbers of the
    prompts in the row; None means that the segment is a prefix itself.
    """

    spans: Sequence[slice]
    shared: int
    prefix: slice | None
    outputs: slice | None


@dataclass(frozen=True, slots=True)
class Row:
    """Tokens of several prompts, end to end, with their positions in their prompts.

    `last` are the indexes of each prompt's last token. `carried` is the group whose prefix the next row may continue,
    if any, and `carried_at` the span of that prefix in this row; None if it was carried over from the row before.
    """

    tokens: Sequence[int]
    positions: Sequence[int]
    segments: Sequence[Segment]
    last: Sequence[int]
    carried: Group | None
    carried_at: slice | None


def members(prompts: Sequence[Prompt], keys: Sequence[Hashable]) -> list[Member]:
    """Return the prompts group by group, within a group the longest first.

    `keys` says which prompts begin alike. Each prompt keeps at least one token of its own.
    """
    by_key: dict[Hashable, list[Prompt]] = {}
    for prompt, key in zip(prompts, keys, strict=True):
        by_key.setdefault(key, []).append(prompt)
    ordered = []
    for of_group in by_key.values():
        group = Group(common_prefix([prompt.ids for prompt in of_group]))
        for number, prompt in enumerate(sorted(of_group, key=lambda prompt: -len(prompt.ids))):
            shared = shared_length(group.prefix, prompt.ids)
            size = len(prompt.ids) - shared + (0 if number else len(group.prefix))
            ordered.append(Member(prompt, group, shared, size))
    return ordered


def common_prefix(rows: Sequence[list[int]]) -> list[int]:
    """Return the tokens that all rows begin with, less the last of the shortest row. A single row shares nothing."""
    # the prefix of the first and the last row in lexicographic order is common to all rows
    return rows[0][:0] if len(rows) == 1 else min(rows)[: shared_length(max(rows), min(rows))]


def shared_length(prefix: Sequence[int], row: Sequence[int]) -> int:
    """Return how many tokens a row shares with a prefix; at least one of its own remains."""
    longest = min(len(prefix), len(row) - 1)
    return next((index for index in range(longest) if prefix[index] != row[index]), longest)


def pack(batch: Sequence[Member], carried: Group | None) -> Row:
    """Pack members end to end, each group after its prefix, unless the prefix is carried over from the row before.

    The prefix of the last group is carried on to the next row.
    """
    tokens: list[int] = []
    positions: list[int] = []
    segments: list[Segment] = []
    last: list[int] = []
    carried_at = None
    for group, run in groupby(batch, key=lambda member: member.group):
        prefix = None
        if group.prefix and group is not carried:
            prefix = slice(len(tokens), len(tokens) + len(group.prefix))
            tokens += group.prefix
            positions += range(len(group.prefix))
            segments.append(Segment([prefix], 0, prefix, None))
        of_group = list(run)
        starts = len(last)
        spans = []
        for member in of_group:
            own = member.prompt.ids[member.shared :]
            spans.append(slice(len(tokens), len(tokens) + len(own)))
            tokens += own
            positions += range(member.shared, len(member.prompt.ids))
            last.append(len(tokens) - 1)
        segments += _segments(of_group, spans, prefix, starts)
        carried_at = prefix
    return Row(tokens, positions, segments, last, group if group.prefix else None, carried_at)


def _segments(batch: Sequence[Member], spans: Sequence[slice], prefix: slice | None, first: int) -> list[Segment]:
    """Return the segments of one group, the longest members first; `first` is the number of the first in the row.

    A segment ends where lengths differ too much, or shared parts differ.
    """
    segments = []
    start = 0
    for index in range(1, len(batch) + 1):
        longest = spans[start].stop - spans[start].start
        if index < len(batch):
            length = spans[index].stop - spans[index].start
            if batch[index].shared == batch[start].shared and length <= longest <= SIMILAR * length:
                continue
        segments.append(Segment(spans[start:index], batch[start].shared, prefix, slice(first + start, first + index)))
        start = index
    return segments
