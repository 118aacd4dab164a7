"""`Embedding` requests -> token ids of a text after its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from lbr_cli.core import Embedding
from lbr_cli.engines.local.prompt_head import PromptHeads
from lbr_cli.engines.prompts import Prompt
from lbr_cli.errors import MissingError


class TextTokenizer:
    """Turns `Embedding` requests into inputs of at most `max_length` tokens, or of the limit of the request."""

    def __init__(self, tokenizer: Any, max_length: int, model: str) -> None:
        self.max_length = max_length
        self.pad = tokenizer.pad_token_id or 0
        self.prompt_length = lru_cache(None)(self._prompt_length)
        self._tokenizer = tokenizer
        self._model = model
        self._heads = PromptHeads(tokenizer, model)

    def inputs(self, texts: Sequence[Embedding]) -> list[Prompt]:
        """Return the inputs of texts. A text without any token, special tokens included, becomes one padding token."""
        kinds: dict[tuple[int, str], list[int]] = {}
        for position, text in enumerate(texts):
            limit = min(self.max_length, text.max_length or self.max_length)
            kinds.setdefault((limit, text.prompt), []).append(position)
        inputs: dict[int, Prompt] = {}
        for (limit, prompt), positions in kinds.items():
            head, before = self._heads.split(prompt)
            room = limit - len(head)
            if head and room <= self._tokenizer.num_special_tokens_to_add():
                problem = f"a text may have {limit} tokens, and the prompt {prompt!r} leaves no room for a text"
                raise MissingError(f"{self._model}: {problem}")
            joined = [before + texts[position].text for position in positions]
            encodings = self._tokenizer(joined, truncation=True, max_length=room, split_special_tokens=True).encodings
            for position, encoding in zip(positions, encodings, strict=True):
                ids = self._heads.inserted(head, encoding.ids) or [self.pad]
                inputs[position] = Prompt(texts[position], ids, bool(encoding.overflowing))
        return [inputs[position] for position in range(len(texts))]

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
