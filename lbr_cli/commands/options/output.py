"""Output options: the ranking, its format, and the manifest."""

from dataclasses import dataclass
from typing import ClassVar

from lbr_cli.commands.command import OptionGroup, flag, option
from lbr_cli.errors import UsageError
from lbr_cli.formats import RUN_FORMATS, RunFormat, run_format
from lbr_cli.formats.output import STDOUT

TABLES = (".parquet", ".arrow", ".feather")
FORMAT_NAMES = [known.name for known in RUN_FORMATS if known.can_write]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingOptions(OptionGroup):
    """The file of a ranking."""

    heading: ClassVar[str] = "Output"

    output: str = option(
        "FILE",
        "File of the ranking, written when complete; .gz and .zst compress, - is standard output.",
        STDOUT,
        short="-o",
    )
    output_format: str | None = option(
        "FORMAT",
        f"Format of the ranking: {', '.join(FORMAT_NAMES)}.",
        choices=FORMAT_NAMES,
        unset="by the extension of -o, else that of RUN",
    )
    no_clobber: bool = flag("Fail if an output file exists.")

    def __post_init__(self) -> None:
        if self.output.endswith(TABLES) and self.output_format is None:
            hint = "write .jsonl and convert it, or choose a format with --output-format"
            raise UsageError(f"-o {self.output}: Parquet and Arrow files are read, but not written", hint=hint)

    def format(self) -> RunFormat | None:
        return run_format(self.output_format) if self.output_format else None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions(RankingOptions):
    """The output of `lbr rerank`."""

    tag: str | None = option("TAG", "Run tag of TREC output.", unset="lbr-MODEL")
    explain: bool = flag("Add details to JSONL output, such as digits, probability or passage.")
    manifest: str | None = option("FILE", "Write versions, options, checksums and counts of the job to FILE, as JSON.")
