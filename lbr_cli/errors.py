"""Everything that can go wrong for a user, in one tree.

    LbrError                 never raised itself
    ├── InputError      2    a file that cannot be used as it is
    ├── UsageError      2    options that make no sense, or not together
    ├── MissingError    2    a model, device or extra that is not there
    ├── RequestError    2    a pair that no engine can score
    │   └── ComputeError 1   a pair on which computing failed
    └── RunError        1    failed while running; may succeed if tried again

The number is the exit code: 2 says that trying again changes nothing. `lbr_cli.commands.main` is the one place that
catches them; a message is one sentence without a full stop, a hint says what to do.
"""

from __future__ import annotations

from typing import ClassVar, Self


class LbrError(Exception):
    """The root of the tree."""

    exit_code: ClassVar[int]

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        """Errors go from process to process, whatever their classes are made from."""
        return _again, (type(self), self.args), vars(self)


def _again(kind: type[LbrError], arguments: tuple[object, ...]) -> LbrError:
    return kind.__new__(kind, *arguments)


class InputError(LbrError):
    """`FILE:LINE: what is wrong`; the line counts from 1, and is left out where the whole file is meant."""

    exit_code = 2

    def __init__(self, message: str, file: str = "", line: int | None = None, *, hint: str = "") -> None:
        place = f"{file}:{line}" if line is not None else file
        super().__init__(f"{place}: {message}" if place else message, hint=hint)


class UsageError(LbrError):
    exit_code = 2


class MissingError(LbrError):
    exit_code = 2


class RequestError(LbrError):
    """Raised by an engine with the place of the request in what it was given; `scoring` adds the ids."""

    exit_code = 2

    def __init__(self, message: str, place: int, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.place = place

    def at(self, place: int, whose: str = "") -> Self:
        """The same error for a caller who counts otherwise or knows `whose` request it was."""
        return type(self)(f"{whose}{self}", place, hint=self.hint)


class ComputeError(RequestError):
    """Memory ran out or the model failed; a smaller batch or another device may do."""

    exit_code = 1


class RunError(LbrError):
    exit_code = 1


def first_line(error: BaseException) -> str:
    """What an error of somebody else's says, in a line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
