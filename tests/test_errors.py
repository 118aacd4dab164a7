"""Errors of the operating system: which of them may pass."""

from __future__ import annotations

import errno

import pytest

from lbr_cli.errors import InputError, MissingError, RunError, read_error


@pytest.mark.parametrize("number", [errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EIO, errno.EMFILE])
def test_errors_of_disks_and_network_file_systems_may_pass(number: int) -> None:
    error = read_error("run", OSError(number, "reason"), InputError)
    assert (type(error), str(error)) == (RunError, "run: cannot be read: reason")


@pytest.mark.parametrize("kind", [InputError, MissingError])
def test_a_missing_permission_does_not_pass(kind: type[InputError | MissingError]) -> None:
    error = read_error("run", PermissionError(errno.EACCES, "reason"), kind)
    assert (type(error), str(error)) == (kind, "run: cannot be read: reason")
