"""Responses of servers -> log-probabilities of labels. Strict: any unexpected response raises.

The forms are those of OpenAI's `/v1/chat/completions` and `/v1/completions`. For the latter, vLLM may return token ids
instead of texts (`token_id:33`), and llama.cpp's server returns the list of the former, with an `id` for each token.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from lbr_cli.engines.http_client import json_object
from lbr_cli.engines.response_errors import BadResponse, IncompleteResponse, InvalidValue

NAMED_ID = re.compile(r"token_id:([0-9]{1,9})")
SLACK = 0.01  # probabilities may exceed 1 by this much on servers that compute in half precision


class Token(NamedTuple):
    """A possible next token. `id` is None if the server returns only the text."""

    id: int | None
    text: str
    log_probability: float


class TopLogprobs(NamedTuple):
    """The top tokens, and the number of tokens of the prompt, 0 if the server does not return it."""

    tokens: list[Token]
    read: int


class AmbiguousLabel(Exception):
    """Two tokens with different probabilities have the text of the same label."""


def parse_logprobs(response: Any) -> TopLogprobs:
    """Return the top tokens of a response. IncompleteResponse if it has no log-probabilities, else BadResponse."""
    answer = json_object(response)
    choices = answer.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise BadResponse("not exactly one choice")
    logprobs = choices[0].get("logprobs")
    if logprobs is None:
        raise IncompleteResponse("the response has none")
    if not isinstance(logprobs, dict):
        raise BadResponse("invalid log-probabilities")
    tokens = _of_chat(logprobs["content"]) if logprobs.get("content") else _of_completion(logprobs.get("top_logprobs"))
    if not tokens:
        raise IncompleteResponse("the response has none")
    if math.fsum(math.exp(token.log_probability) for token in set(tokens)) > 1 + SLACK:
        raise BadResponse("probabilities above 1")
    usage = answer.get("usage")
    read = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return TopLogprobs(tokens, read if isinstance(read, int) else 0)


def label_logprobs(tokens: Sequence[Token], labels: Sequence[str | int], ids: Sequence[int] | None) -> list[float]:
    """Return the log-probability of each label, -inf for a label that is not among the tokens.

    A label is looked up by its id if both ids are known, else by its exact text. Raises AmbiguousLabel, and BadResponse
    for tokens without ids if a label is an id.
    """
    if any(isinstance(label, int) for label in labels) and any(token.id is None for token in tokens):
        raise BadResponse("tokens without ids")
    by_key: dict[int | str, set[float]] = {key: set() for key in (*labels, *(ids or ()))}
    for token in tokens:
        key = token.text if ids is None or token.id is None else token.id
        if key in by_key:
            by_key[key].add(token.log_probability)
    values = []
    for index, label in enumerate(labels):
        matching = by_key[label] | by_key[ids[index]] if ids else by_key[label]
        if len(matching) > 1:
            raise AmbiguousLabel(str(label))
        values.append(next(iter(matching)) if matching else -math.inf)
    return values


def top_k(tokens: Sequence[Token], count: int) -> list[Token]:
    """Return the `count` most probable tokens: a server may add the token that it sampled."""
    return sorted(tokens, key=lambda token: -token.log_probability)[:count]


def _of_chat(content: Any) -> list[Token]:
    first = content[0] if isinstance(content, list) else None
    top = first.get("top_logprobs") if isinstance(first, dict) else None
    if not isinstance(top, list) or not all(isinstance(entry, dict) for entry in top):
        raise BadResponse("invalid log-probabilities")
    return [_token(entry.get("token"), entry.get("logprob"), entry.get("id")) for entry in top]


def _of_completion(top: Any) -> list[Token]:
    if not top:
        return []
    if not isinstance(top, list) or len(top) != 1 or not isinstance(top[0], dict):
        raise BadResponse("invalid log-probabilities")
    return [_token(text, value, None) for text, value in top[0].items()]


def _token(text: Any, value: Any, token_id: Any) -> Token:
    if type(text) is not str or type(value) not in (int, float) or not value <= SLACK:
        raise InvalidValue("invalid log-probability")
    if named := NAMED_ID.fullmatch(text):
        token_id = int(named[1])
    return Token(token_id if isinstance(token_id, int) else None, text, float(value))
