"""`TokenEmbeddings` requests -> token ids with prefix tokens and query expansion, and the positions with a vector."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken

from lbr_cli.core import Request, Token, TokenEmbeddings
from lbr_cli.engines.local.prompt_head import SAMPLES, PromptHeads
from lbr_cli.engines.prompts import Prompt, narrowed
from lbr_cli.errors import MissingError
from lbr_cli.models.late_interaction import LateFolder


class TokenInput(NamedTuple):
    """The token ids of a text, their attention mask `attended`, and the positions `rows` that have a vector.

    `tokens` are those at `rows`, if the request asks for them.
    """

    request: Request
    ids: list[int]
    truncated: bool
    attended: list[int]
    rows: list[int]
    tokens: Sequence[Token] = ()


class TokenTokenizer:
    """Turns `TokenEmbeddings` requests into inputs of at most `max_length` tokens, by the `settings` of a folder.

    Raises MissingError for a prefix or an expansion token that the tokenizer does not have, and for a length that
    leaves no room for the text of one of the `samples`.
    """

    def __init__(
        self, tokenizer: Any, max_length: int, settings: LateFolder, folder: Path, samples: Sequence[Request]
    ) -> None:
        self.max_length = max_length
        self._tokenizer = tokenizer
        self._folder = folder
        self._usual = settings.usual_length
        self._register(settings.prefixes)
        self._heads = PromptHeads(tokenizer, str(folder))
        self.pad = self._heads.pad
        self._skipped = self._ids_of(settings.skipped)
        self._skipped_in = settings.skipped_in
        self._fill = lru_cache(None)(self._find_fill)
        for sample in samples:
            self._check(narrowed(TokenEmbeddings, sample))

    def prompt(self, request: Any) -> Prompt:
        """Return the token ids of a request."""
        (prompt,) = self.inputs([request])
        return prompt

    def inputs(self, requests: Sequence[Any]) -> list[Prompt]:
        """Return the token ids of requests."""
        return [Prompt(text.request, text.ids, text.truncated) for text in self.encode(requests)]

    def length_without_document(self, request: Any) -> int:
        """Return how many tokens the input of an empty text has."""
        return len(self.prompt(TokenEmbeddings("", request.is_query, request.prompt)).ids)

    def encode(self, requests: Sequence[Request]) -> list[TokenInput]:
        """Return the inputs of requests."""
        texts = [narrowed(TokenEmbeddings, request) for request in requests]
        limits = [self._limit(text) for text in texts]
        encoded = zip(texts, limits, self._heads.encode(texts, limits), strict=True)
        return [self._input(text, limit, ids, encoding) for text, limit, (ids, encoding) in encoded]

    def _limit(self, text: TokenEmbeddings) -> int:
        """Return the limit of a text in tokens. A maximum length above the folder's own is for documents only."""
        if not text.is_query and self.max_length > (self._usual or self.max_length):
            return self.max_length
        return min(self.max_length, text.max_length or self.max_length)

    def _input(self, text: TokenEmbeddings, limit: int, ids: list[int], encoding: Any) -> TokenInput:
        """Return the input of a text: add the expansion, and decide which tokens have a vector."""
        skipped = self._skipped if ("query" if text.is_query else "document") in self._skipped_in else frozenset()
        rows = [position for position, token_id in enumerate(ids) if token_id not in skipped]
        attended = [1] * len(ids)
        tokens = self._tokens(text, ids, encoding) if text.with_tokens else []
        if text.expansion and (count := min(text.expansion.length, limit) - len(ids)) > 0:
            fill = self._fill(text.expansion.token)
            name = Token(self._tokenizer.convert_ids_to_tokens(fill))
            mask = [int(text.expansion.attended)] * count
            filled = [] if fill in skipped else range(count)
            if self._tokenizer.padding_side == "left":
                rows = [*filled, *(count + row for row in rows)]
                ids, attended, tokens = [fill] * count + ids, mask + attended, [name] * count + tokens
            else:
                rows = [*rows, *(len(ids) + position for position in filled)]
                ids, attended, tokens = ids + [fill] * count, attended + mask, tokens + [name] * count
        shown = [tokens[row] for row in rows] if text.with_tokens else ()
        return TokenInput(text, ids, bool(encoding.overflowing), attended, rows, shown)

    def _tokens(self, text: TokenEmbeddings, ids: list[int], encoding: Any) -> list[Token]:
        """Return the tokens of an input."""
        start = len(self._heads.split(text.prompt)[1])  # of the text, in the encoded string
        added = len(ids) - len(encoding.ids)
        opening = self._heads.opening
        spans = [*encoding.offsets[:opening], *[(0, 0)] * added, *encoding.offsets[opening:]]
        tokens = []
        for token_id, (first, end) in zip(ids, spans, strict=True):
            if end > max(first, start):
                first = max(first, start) - start
                tokens.append(Token(text.text[first : end - start], first, end - start))
            else:
                tokens.append(Token(self._tokenizer.convert_ids_to_tokens(token_id)))
        return tokens

    def _register(self, prefixes: Sequence[str]) -> None:
        """Make each prefix a special token; some tokenizers have it only in their vocabulary."""
        tokenizer = self._tokenizer
        known = tokenizer.get_vocab()
        added = []
        for prefix in prefixes:
            token = next((token for token in (prefix, *prefix.split(None, 1)[:1]) if token in known), None)
            if token is None:
                raise MissingError(f"{self._folder}: the prefix {prefix!r} is not a token of its tokenizer")
            if tokenizer.tokenize(token) != [token]:
                added.append(AddedToken(token, normalized=False, special=True))
        if added:
            tokenizer.add_special_tokens({"additional_special_tokens": added})

    def _ids_of(self, words: Sequence[str]) -> frozenset[int]:
        """Return the ids of words of the vocabulary; other words cannot occur as one token."""
        ids_by_word = {word: self._tokenizer.convert_tokens_to_ids(word) for word in words}
        unknown = self._tokenizer.unk_token_id
        return frozenset(
            token_id
            for word, token_id in ids_by_word.items()
            if token_id is not None and (token_id != unknown or word == self._tokenizer.unk_token)
        )

    def _find_fill(self, token: str | None) -> int:
        """Return the id of the token of an expansion."""
        tokenizer = self._tokenizer
        if token is not None:
            ids = self._ids_of([token])
            if not ids:
                raise MissingError(f"{self._folder}: the token {token!r} of query_expansion is not in its tokenizer")
            return next(iter(ids))
        token_id = tokenizer.eos_token_id if tokenizer.mask_token_id is None else tokenizer.mask_token_id
        if token_id is None:
            problem = "query expansion needs a mask token, and its tokenizer has none"
            raise MissingError(f"{self._folder}: {problem}")
        return int(token_id)

    def _check(self, sample: TokenEmbeddings) -> None:
        """Raise MissingError if the prompt of a sample leaves no room for a text, or an expansion token is missing."""
        if sample.expansion:
            self._fill(sample.expansion.token)
        head, before = self._heads.split(sample.prompt)
        limit = self._limit(sample)
        (ids,) = self._tokenizer([before + SAMPLES[0]], split_special_tokens=True)["input_ids"]
        if len(head) + len(ids) > limit:
            role = "query" if sample.is_query else "document"
            problem = f"a {role} may have {limit} tokens, and its prompt leaves no room for a text"
            raise MissingError(f"{self._folder}: {problem}")
