"""Run `lbr` on a pseudo-terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

from support.paths import ROOT


def on_terminal(
    folder: Path, *arguments: str, columns: int = 80, env: dict[str, str] | None = None
) -> tuple[bytes, bytes]:
    """Run `lbr` with stderr on a terminal; return what it writes to stdout, and what the terminal receives."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name not in {"TERM", "COLUMNS", "NO_COLOR"}}
    job = subprocess.Popen(
        [sys.executable, "-m", "lbr_cli", *arguments],
        cwd=folder,
        env=inherited | {"PYTHONPATH": str(ROOT)} | (env or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=slave,
    )
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # Linux: the other end is closed
        while chunk := os.read(master, 65536):
            shown += chunk
    os.close(master)
    out, _ = job.communicate(timeout=60)
    assert job.returncode == 0
    return out, shown


def waiting_for_input(folder: Path, *arguments: str, stderr: int) -> subprocess.Popen[bytes]:
    """Start a job that writes `-o FILE` and reads its run from a pipe; return when it waits for the run.

    It ignores SIGHUP, and its standard error is the descriptor `stderr`.
    """
    job = subprocess.Popen(
        [sys.executable, "-m", "lbr_cli", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm"},
        stdin=subprocess.PIPE,
        stderr=stderr,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    while not list(folder.glob("*.lbr-tmp")) and job.poll() is None:
        time.sleep(0.02)
    return job
