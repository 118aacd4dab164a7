"""Run a part of a test without the rights of root."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

OTHER_USER = 54321


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Run the block as a user who is not root."""
    if os.geteuid():
        yield
        return
    os.seteuid(OTHER_USER)
    try:
        yield
    finally:
        os.seteuid(0)
