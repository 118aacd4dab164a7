"""The special tokens of a prompt before a text that becomes vectors.

A prompt may contain special tokens, such as the prefixes of ColBERT. Special tokens written out in a text stay plain
text. So the ids of a prompt up to its last special token are inserted where the text begins, and the rest of the prompt
is tokenized with the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from lbr_cli.core import Embedding, TokenEmbeddings
from lbr_cli.errors import MissingError

SAMPLES = ("a b", "ab, c")  # texts of more than one token


class PromptHeads:
    """Splits prompts into their heads, the ids up to the last special token, and the rest.

    `opening` is how many special tokens the tokenizer puts before a text, `pad` the token id of padding. `model` names
    the model in errors.
    """

    def __init__(self, tokenizer: Any, model: str) -> None:
        self.pad: int = tokenizer.pad_token_id or 0
        self._tokenizer = tokenizer
        self._model = model
        self._special = {token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special}
        (encoding,) = tokenizer([SAMPLES[0]], split_special_tokens=True).encodings
        mask = encoding.special_tokens_mask
        self.opening: int = mask.index(0) if 0 in mask else 0
        self.split = lru_cache(None)(self._split)

    def encode(
        self, texts: Sequence[Embedding | TokenEmbeddings], limits: Sequence[int]
    ) -> list[tuple[list[int], Any]]:
        """Return the ids of each text after its prompt, at most as many as its limit, and the tokenizer's encoding.

        The encoding is that of the text after the rest of the prompt. A text without any token, special tokens
        included, becomes one padding token. Raises MissingError if a prompt leaves no room for a text.
        """
        kinds: dict[tuple[int, str], list[int]] = {}
        for position, (limit, text) in enumerate(zip(limits, texts, strict=True)):
            kinds.setdefault((limit, text.prompt), []).append(position)
        encoded: dict[int, tuple[list[int], Any]] = {}
        for (limit, prompt), positions in kinds.items():
            head, before = self.split(prompt)
            room = limit - len(head)
            if head and room <= self._tokenizer.num_special_tokens_to_add():
                problem = f"a text may have {limit} tokens, and the prompt {prompt!r} leaves no room for a text"
                raise MissingError(f"{self._model}: {problem}")
            joined = [before + texts[position].text for position in positions]
            encodings = self._tokenizer(joined, truncation=True, max_length=room, split_special_tokens=True).encodings
            for position, encoding in zip(positions, encodings, strict=True):
                encoded[position] = self.inserted(head, encoding.ids) or [self.pad], encoding
        return [encoded[position] for position in range(len(texts))]

    def inserted(self, head: list[int], ids: list[int]) -> list[int]:
        """Return the ids of a text with a head before the text."""
        return [*ids[: self.opening], *head, *ids[self.opening :]]

    def _split(self, prompt: str) -> tuple[list[int], str]:
        """Return the head of a prompt, and the rest, which precedes the text.

        Raises MissingError if a text has other tokens after a special token than alone.
        """
        (encoding,) = self._tokenizer([prompt], add_special_tokens=False, split_special_tokens=False).encodings
        positions = [position for position, token_id in enumerate(encoding.ids) if token_id in self._special]
        head = encoding.ids[: positions[-1] + 1] if positions else []
        rest = prompt[encoding.offsets[positions[-1]][1] :] if positions else prompt
        for sample in SAMPLES:
            (whole,) = self._tokenizer([prompt + sample], split_special_tokens=False)["input_ids"]
            (alone,) = self._tokenizer([rest + sample], split_special_tokens=True)["input_ids"]
            if whole != self.inserted(head, alone):
                problem = f"unsupported prompt {prompt!r}: it changes the tokens of the text after it"
                raise MissingError(f"{self._model}: {problem}")
        return head, rest
