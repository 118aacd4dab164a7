"""Preview the tokens that an engine sends to its model, without weights: for --dry-run and --show-prompt."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from lbr_cli.core import Request
from lbr_cli.engines import ENGINES, Settings
from lbr_cli.engines.prompts import Prompt
from lbr_cli.models import LocalModel


class PromptPreview(Protocol):
    """Makes the prompts of requests as an engine does."""

    @property
    def max_length(self) -> int: ...

    def prompt(self, request: Request) -> Prompt:
        """Return the prompt of a request. RequestError if the query leaves no room for the document."""

    def text(self, ids: list[int]) -> str:
        """Return token ids as text, special tokens written out."""


def prompt_preview(engine: str, model: LocalModel, settings: Settings) -> PromptPreview:
    """Return the preview of an engine for a model whose tokenizer is on this machine.

    Raises UsageError and MissingError as the engine does.
    """
    # both modules import transformers
    if ENGINES[engine].sends_token_ids:
        from lbr_cli.engines.token_prompts import TokenPrompts

        return TokenPrompts(model, settings, engine)
    from lbr_cli.engines.local.frontend import read

    return read(model, settings)


def token_lengths(preview: PromptPreview, requests: Iterable[Request]) -> tuple[list[int], int]:
    """Return the lengths of the distinct requests in tokens, and how many of them would be truncated."""
    lengths: dict[Request, tuple[int, bool]] = {}
    for request in requests:
        if request not in lengths:
            prompt = preview.prompt(request)
            lengths[request] = len(prompt.ids), prompt.truncated
    return [length for length, _ in lengths.values()], sum(truncated for _, truncated in lengths.values())
