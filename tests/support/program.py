"""Run `lbr` as a process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.fork_server import Forked


@dataclass(frozen=True)
class Result:
    """The exit code and the output of a process that has ended."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """Standard output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


Program = Callable[..., Result]
Starter = Callable[..., subprocess.Popen[bytes] | Forked]


def fresh(arguments: Sequence[str], cwd: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start `lbr` in a new interpreter."""
    return subprocess.Popen(
        [sys.executable, "-m", "lbr_cli", *arguments],
        cwd=cwd,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finished(process: subprocess.Popen[bytes] | Forked, stdin: bytes) -> Result:
    """Write standard input and wait for the process to end."""
    try:
        out, err = process.communicate(stdin, timeout=600)  # a process that hangs, not a slow machine
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Result(process.wait(), out.decode(), err.decode(errors="surrogateescape"))
