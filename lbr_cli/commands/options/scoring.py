"""Scoring options, and options of long documents."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from lbr_cli.commands.command import OptionGroup, option
from lbr_cli.errors import UsageError
from lbr_cli.passages import WORDS, Passages
from lbr_cli.rerank import Method


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentOptions(OptionGroup):
    """How to score documents that are longer than a model reads."""

    heading: ClassVar[str] = "Long documents"

    max_length: int | None = option(
        "TOKENS", "Maximum length of a prompt; the document is truncated.", min=1, unset="limit of the model"
    )
    passages: Literal["first", "max", "mean"] | None = option(
        None, "Score a document by its passages: the first, the maximum, or the mean."
    )
    passage_words: int = option("N", "Words of a passage.", WORDS, min=1)
    passage_stride: int | None = option(
        "N", "Words from the start of a passage to that of the next.", min=1, unset="half a passage"
    )

    def __post_init__(self) -> None:
        if self.passages is None:
            self.refuse(("passage_words", "passage_stride"), "there is no --passages")
        elif self.passages == "first":
            self.refuse(("passage_stride",), "--passages first reads one passage")
        elif self.passage_stride is not None and self.passage_stride > self.passage_words:
            message = f"passages of {self.passage_words} words would leave out the words between them"
            raise UsageError(f"--passage-stride {self.passage_stride}: {message}", hint=f"at most {self.passage_words}")

    def values(self) -> dict[str, Any]:
        """Return the options, with the computed stride; options of passages that have no effect are None."""
        passages = self.split()
        words = passages and passages.words
        stride = passages.stride if passages and passages.score != "first" else None
        return {**OptionGroup.values(self), "passage_words": words, "passage_stride": stride}

    def split(self) -> Passages | None:
        """Return how to split documents into passages, or None."""
        if self.passages is None:
            return None
        return Passages(self.passages, self.passage_words, self.passage_stride or max(self.passage_words // 2, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringOptions(OptionGroup):
    """Which candidates to score, and how to rank them."""

    heading: ClassVar[str] = "Scoring"

    depth: int | None = option("K", "Score the first K candidates of each query; rank the others below them.", min=1)
    top_k: int | None = option("K", "Write only the first K candidates of each query.", min=1)
    interpolate: float | None = option(
        "W", "Rank by W times the first-stage score plus 1-W times the model's, both scaled to 0..1.", min=0, max=1
    )

    min_score: float | None = option("X", "Write only candidates whose score of the model is at least X.")
    min_probability: float | None = option(
        "P", "Write only candidates whose probability, as shown by --explain, is at least P.", min=0, max=1
    )

    def __post_init__(self) -> None:
        if self.interpolate is not None and math.isnan(self.interpolate):
            raise UsageError("--interpolate nan: not a weight from 0 to 1")
        if self.min_score is not None and not math.isfinite(self.min_score):
            raise UsageError(f"--min-score {self.min_score}: not a finite number")
        if self.min_score is not None and self.min_probability is not None:
            raise UsageError("--min-score and --min-probability exclude each other: both are thresholds of the score")

    def method(self, documents: DocumentOptions) -> Method:
        thresholds = self.min_score, self.min_probability
        return Method(self.depth, self.top_k, documents.split(), self.interpolate, *thresholds)
