"""Options of `lbr doctor` for reference scores."""

from dataclasses import dataclass
from typing import ClassVar

from lbr_cli.commands.command import OptionGroup, option
from lbr_cli.errors import UsageError
from lbr_cli.formats.output import STDOUT


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceOptions(OptionGroup):
    """The file to write reference scores to, or the one to compare with."""

    heading: ClassVar[str] = "Reference scores"

    record: str | None = option("FILE", "Write token ids and scores of twenty pairs, with all versions, as JSON.")
    check: str | None = option("FILE", "Compute the pairs of a recorded FILE again; fail if they differ.")

    def __post_init__(self) -> None:
        if self.record is not None:
            self.refuse(("check",), "--record writes new reference scores")
        if self.record == STDOUT:
            raise UsageError("--record -: standard output has the findings; name a file")
