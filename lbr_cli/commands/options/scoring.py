"""Scoring options, and those of long documents."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import typer

from lbr_cli.commands.command import OptionGroup
from lbr_cli.errors import UsageError
from lbr_cli.passages import WORDS, Passages
from lbr_cli.rerank import Method


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentOptions(OptionGroup):
    """How to score documents that are longer than a model reads."""

    heading: ClassVar[str] = "Long documents"

    max_length: Annotated[
        int | None,
        typer.Option(
            metavar="TOKENS",
            min=1,
            help="Maximum length of a prompt; the document is truncated.",
            show_default="limit of the model",
        ),
    ] = None
    passages: Annotated[
        Literal["first", "max", "mean"] | None,
        typer.Option(help="Score a document by its passages: the first, the maximum, or the mean."),
    ] = None
    passage_words: Annotated[int, typer.Option(metavar="N", min=1, help="Words of a passage.")] = WORDS
    passage_stride: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Words from the start of a passage to that of the next.",
            show_default="half a passage",
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.passages is None:
            self.refuse(("passage_words", "passage_stride"), "there is no --passages")
        elif self.passages == "first":
            self.refuse(("passage_stride",), "--passages first reads one passage")
        elif self.passage_stride is not None and self.passage_stride > self.passage_words:
            message = f"passages of {self.passage_words} words would leave out the words between them"
            raise UsageError(f"--passage-stride {self.passage_stride}: {message}", hint=f"at most {self.passage_words}")

    def values(self) -> dict[str, Any]:
        """Return the options with the stride that results from them, and only those that have an effect."""
        passages = self.split()
        words = passages and passages.words
        stride = passages.stride if passages and passages.score != "first" else None
        return {
            "max_length": self.max_length,
            "passages": self.passages,
            "passage_words": words,
            "passage_stride": stride,
        }

    def split(self) -> Passages | None:
        """Return how to split documents into passages, or None."""
        if self.passages is None:
            return None
        return Passages(self.passages, self.passage_words, self.passage_stride or max(self.passage_words // 2, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringOptions(OptionGroup):
    """Which candidates to score, and how to rank them."""

    heading: ClassVar[str] = "Scoring"

    depth: Annotated[
        int | None,
        typer.Option(
            metavar="K", min=1, help="Score the first K candidates of each query; rank the others below them."
        ),
    ] = None
    top_k: Annotated[
        int | None, typer.Option(metavar="K", min=1, help="Write only the first K candidates of each query.")
    ] = None
    interpolate: Annotated[
        float | None,
        typer.Option(
            metavar="W",
            min=0,
            max=1,
            help="Rank by W times the first-stage score plus 1-W times the model's, both scaled to 0..1.",
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.interpolate is not None and math.isnan(self.interpolate):
            raise UsageError("--interpolate nan: not a weight from 0 to 1")

    def method(self, documents: DocumentOptions) -> Method:
        return Method(self.depth, self.top_k, documents.split(), self.interpolate)
