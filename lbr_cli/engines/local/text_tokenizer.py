"""`Embedding` requests -> token ids of a text after its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from lbr_cli.core import Embedding
from lbr_cli.engines.local.prompt_head import PromptHeads
from lbr_cli.engines.prompts import Prompt


class TextTokenizer:
    """Turns `Embedding` requests into inputs of at most `max_length` tokens, or of the limit of the request."""

    def __init__(self, tokenizer: Any, max_length: int, model: str) -> None:
        self.max_length = max_length
        self.prompt_length = lru_cache(None)(self._prompt_length)
        self._tokenizer = tokenizer
        self._heads = PromptHeads(tokenizer, model)
        self.pad = self._heads.pad

    def inputs(self, texts: Sequence[Embedding]) -> list[Prompt]:
        """Return the inputs of texts."""
        limits = [min(self.max_length, text.max_length or self.max_length) for text in texts]
        encoded = zip(texts, self._heads.encode(texts, limits), strict=True)
        return [Prompt(text, ids, bool(encoding.overflowing)) for text, (ids, encoding) in encoded]

    def prompt(self, request: Embedding) -> Prompt:
        """Return the input of a text."""
        (prompt,) = self.inputs([request])
        return prompt

    def length_without_document(self, request: Embedding) -> int:
        """Return how many tokens the input of an empty text has."""
        return len(self.prompt(Embedding("", request.prompt, request.max_length)).ids)

    def _prompt_length(self, prompt: str) -> int:
        """Return the number of tokens of a prompt without a closing special token, as sentence-transformers does."""
        ids = self._tokenizer(prompt, split_special_tokens=False)["input_ids"] if prompt else []
        has_closing = bool(ids) and ids[-1] in self._tokenizer.all_special_ids
        return len(ids) - has_closing
