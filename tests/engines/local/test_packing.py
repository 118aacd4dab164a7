"""The plan of packed rows, without torch: each token of each prompt is read once and attends to the right tokens."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from lbr_cli.core import Embedding
from lbr_cli.engines.local import packing
from lbr_cli.engines.local.packing import Group, Member, Row, common_prefix, members, pack, shared_length
from lbr_cli.engines.prompts import Prompt

TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=12)  # few token ids, so that prompts often share a prefix


def prompts(rows: Sequence[list[int]]) -> list[Prompt]:
    return [Prompt(Embedding(str(number)), row, False) for number, row in enumerate(rows)]


def read_back(row: Row, carried: Group | None) -> list[tuple[list[int], list[int]]]:
    """Return the tokens that the last token of each prompt attends to, and their positions."""
    found: dict[int, tuple[list[int], list[int]]] = {}
    for segment in row.segments:
        if segment.outputs is None:
            continue
        before: Sequence[int] = ()
        if segment.shared and segment.prefix is None:
            assert carried is not None
            before = carried.prefix[: segment.shared]
        elif segment.prefix is not None:
            before = row.tokens[segment.prefix][: segment.shared]
        for number, span in zip(range(segment.outputs.start, segment.outputs.stop), segment.spans, strict=True):
            assert row.last[number] == span.stop - 1
            positions = [*range(segment.shared), *row.positions[span]]
            found[number] = [*before, *row.tokens[span]], positions
    return [found[number] for number in range(len(row.last))]


@given(st.lists(st.lists(TOKENS, min_size=1, max_size=6), min_size=1, max_size=4), st.lists(st.integers(1, 5)))
def test_each_prompt_attends_to_its_own_tokens(groups: list[list[list[int]]], cuts: list[int]) -> None:
    """The result does not depend on how the members are split into rows."""
    rows = [row for group in groups for row in group]
    ordered = members(prompts(rows), [number for number, group in enumerate(groups) for _ in group])
    assert sorted(int(member.request.document) for member in ordered) == list(range(len(rows)))
    carried: Group | None = None
    total = start = 0
    for size in [*cuts, len(ordered)]:
        batch = ordered[start : start + size]
        start += size
        if not batch:
            break
        row = pack(batch, carried)
        assert len(row.tokens) == len(row.positions) == sum(member.size for member in batch)
        for member, (tokens, positions) in zip(batch, read_back(row, carried), strict=True):
            assert tokens == member.prompt.ids
            assert positions == list(range(len(tokens)))
        if row.carried is not None and row.carried_at is not None:
            assert row.tokens[row.carried_at] == list(row.carried.prefix)
        carried = row.carried
        total += len(row.tokens)
    # a prefix is read once, also if its group is split into several rows
    prefixes = {id(member.group): len(member.group.prefix) for member in ordered}
    assert total == sum(prefixes.values()) + sum(len(member.prompt.ids) - member.shared for member in ordered)


@given(st.lists(TOKENS, min_size=1, max_size=6))
def test_the_common_prefix_is_the_longest_that_leaves_each_row_a_token(rows: list[list[int]]) -> None:
    prefix = common_prefix(rows)
    assert all(row[: len(prefix)] == prefix and len(row) > len(prefix) for row in rows)
    if len(rows) == 1:
        assert prefix == []
    else:
        longer = [row[: len(prefix) + 1] for row in rows]
        assert any(one != longer[0] for one in longer) or any(len(row) == len(prefix) + 1 for row in rows)


@given(TOKENS, TOKENS)
def test_a_row_shares_its_prefix_except_for_the_last_token(prefix: list[int], row: list[int]) -> None:
    shared = shared_length(prefix, row)
    assert prefix[:shared] == row[:shared]
    assert shared < len(row)
    assert shared in (len(prefix), len(row) - 1) or prefix[shared] != row[shared]


def test_prompts_of_similar_length_share_a_segment() -> None:
    rows = [[7] * 5 + [number] * length for number, length in enumerate((100, 90, 80, 79, 10))]
    segments = pack(members(prompts(rows), ["q"] * 5), None).segments
    assert [len(segment.spans) for segment in segments] == [1, 3, 1, 1]  # the prefix; lengths 100 to 80; 79; 10
    assert [segment.outputs for segment in segments] == [None, slice(0, 3), slice(3, 4), slice(4, 5)]
    assert all(segment.shared == 5 for segment in segments[1:])


def test_a_single_prompt_has_no_prefix() -> None:
    prompt = Prompt(Embedding("x"), [1, 2, 3], False)
    row = pack([Member(prompt, Group(()), 0, 3)], None)
    assert (row.tokens, row.positions, row.last) == ([1, 2, 3], [0, 1, 2], [2])
    assert (row.carried, row.carried_at) == (None, None)


def test_packing_does_not_import_torch() -> None:
    code = f"""
import sys, types
for name in ("torch", "transformers", "tokenizers"):
    sys.modules[name] = None  # cannot be imported
sys.modules["lbr_cli.engines.local"] = package = types.ModuleType("lbr_cli.engines.local")
package.__path__ = [{str(packing.__file__).rpartition("/")[0]!r}]
import lbr_cli.engines.local.packing
"""
    subprocess.run([sys.executable, "-c", code], check=True)
