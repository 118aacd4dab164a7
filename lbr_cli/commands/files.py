"""Check the files of a command before it opens any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lbr_cli.errors import UsageError
from lbr_cli.formats.files import STDIN
from lbr_cli.formats.overwrite import WrittenFiles


def check_inputs(inputs: Mapping[str, Sequence[str]], written: WrittenFiles | None = None) -> None:
    """UsageError if several inputs are standard input, or if one is also written. `inputs` are paths by role."""
    if sum(list(paths).count(STDIN) for paths in inputs.values()) > 1:
        raise UsageError("only one input can be standard input")
    if written:
        for role, paths in inputs.items():
            for path in paths:
                written.check(role, path)
