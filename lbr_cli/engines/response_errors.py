"""What is wrong with the response of a server."""

from __future__ import annotations

from lbr_cli.errors import RunError


class BadResponse(Exception):
    """An invalid response: truncated, garbled, or of another form."""


class InvalidValue(BadResponse):
    """A score that is not a finite number. `index` is that of its document in the request."""

    def __init__(self, message: str, index: int = 0) -> None:
        super().__init__(message)
        self.index = index


class InvalidResponses(RunError):
    """All responses to a request are invalid; `last` is the error of the last one."""

    def __init__(self, message: str, last: BadResponse) -> None:
        super().__init__(message)
        self.last = last


class IncompleteResponse(BadResponse):
    """A valid response without a requested part. A server that returns two of them does not support the request."""


class Refused(Exception):
    """The server refuses a request. `is_request_specific` means that it may accept another.

    `status` is the HTTP status, 0 if the refusal is in the response.
    """

    def __init__(self, message: str, *, is_request_specific: bool = True, status: int = 0) -> None:
        super().__init__(message)
        self.is_request_specific = is_request_specific
        self.status = status
