"""All errors that a user can cause, in one tree.

    LbrError                 the base class
    ├── InputError      2    an invalid or unreadable file
    ├── UsageError      2    invalid options, or options that exclude each other
    ├── MissingError    2    a model, device or extra that is not installed
    ├── RequestError    2    a pair that the model cannot score
    │   └── ComputeError 1   a pair whose computation failed
    └── RunError        1    failed while running; may succeed if tried again

The number is the exit code: 2 means that a retry changes nothing. Only `lbr_cli.commands.main` prints these errors. A
message is one sentence without a full stop; a hint says what to do.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from lbr_cli.core import Request

# errors that may pass: a full disk can have space tomorrow, a missing folder will still be missing
PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EFBIG}
# of network file systems
PASSING |= {errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH}


class LbrError(Exception):
    """The base class."""

    exit_code: ClassVar[int]

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle without calling the constructor, whose arguments differ between classes."""
        return _unpickled, (type(self), self.args), vars(self)


def _unpickled(kind: type[LbrError], arguments: tuple[object, ...]) -> LbrError:
    return kind.__new__(kind, *arguments)


class InputError(LbrError):
    """The message is `FILE:LINE: what is wrong`. Lines count from 1; without a line, it concerns the whole file."""

    exit_code = 2

    def __init__(self, message: str, file: str = "", line: int | None = None, *, hint: str = "") -> None:
        location = f"{file}:{line}" if line is not None else file
        super().__init__(f"{location}: {message}" if location else message, hint=hint)


class UsageError(LbrError):
    exit_code = 2


class MissingError(LbrError):
    exit_code = 2


class RequestError(LbrError):
    """A request that cannot be answered. An engine raises it with the request; the caller adds the ids of its pair."""

    exit_code = 2

    def __init__(self, message: str, request: Request, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.request = request

    def of_pair(self, query_id: str, doc_id: str) -> Self:
        """Return the same error, with the ids of the request's pair in its message."""
        return type(self)(f"query {query_id}, document {doc_id}: {self}", self.request, hint=self.hint)


class ComputeError(RequestError):
    """Out of memory, or the model failed. A smaller batch or another device may help."""

    exit_code = 1


class RunError(LbrError):
    exit_code = 1


class ReaderGone(Exception):
    """The reader of a pipe closed it, as `head` does. This is not an error, but nothing more can be written."""


def read_error(path: object, error: OSError | ValueError, kind: type[LbrError]) -> LbrError:
    """Return the error for a file that cannot be read: RunError if a retry can succeed, else one of `kind`."""
    message = f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}"
    return RunError(message) if getattr(error, "errno", None) in PASSING else kind(message)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class if the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
