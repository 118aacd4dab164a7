"""What servers answer -> log-probabilities of labels. Strict: what is not surely the answer is none.

The shapes are those of OpenAI's `/v1/chat/completions` and `/v1/completions`, and what vLLM and llama.cpp's server make
of the latter: token ids in the place of texts (`token_id:33`), and the list of the former with an `id` to each token.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lbr_cli.engines.openai.client import Malformed, Silent

NAMED_ID = re.compile(r"token_id:([0-9]{1,9})")
SLACK = 0.01  # by which probabilities may exceed 1, of servers that compute in half precision


class Token(NamedTuple):
    """A token that may come next. `id` is None where the server tells the text alone."""

    id: int | None
    text: str
    log_probability: float


class Told(NamedTuple):
    """The likeliest tokens, and how many tokens the prompt had, 0 where that is not said."""

    tokens: list[Token]
    read: int


class TwoAlike(Exception):
    """Two tokens read like one label, with different probabilities."""


def told(answer: Mapping[str, Any]) -> Told:
    """What an answer tells of the first token that comes. Raises Malformed, or Silent, for one that tells nothing."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise Malformed("it has not one choice")
    logprobs = choices[0].get("logprobs")
    if logprobs is None:
        raise Silent("it has no log-probabilities")
    if not isinstance(logprobs, dict):
        raise Malformed("its log-probabilities are none")
    tokens = _of_chat(logprobs["content"]) if logprobs.get("content") else _of_completion(logprobs.get("top_logprobs"))
    if not tokens:
        raise Malformed("it has no log-probabilities")
    if math.fsum(math.exp(token.log_probability) for token in set(tokens)) > 1 + SLACK:
        raise Malformed("its probabilities exceed 1")
    usage = answer.get("usage")
    read = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return Told(tokens, read if isinstance(read, int) else 0)


def values_of(tokens: Sequence[Token], labels: Sequence[str], ids: Sequence[int] | None) -> list[float]:
    """The log-probability of each label, -inf for one that is not among the tokens.

    A label is found by its id where both are known, else by its very text. Raises TwoAlike.
    """
    values = []
    for place, label in enumerate(labels):
        found = {
            token.log_probability
            for token in tokens
            if (token.text == label if ids is None or token.id is None else token.id == ids[place])
        }
        if len(found) > 1:
            raise TwoAlike(label)
        values.append(found.pop() if found else -math.inf)
    return values


def likeliest(tokens: Sequence[Token], count: int) -> list[Token]:
    """The `count` likeliest: a server may add the token that it drew, which chance must not let count."""
    return sorted(tokens, key=lambda token: -token.log_probability)[:count]


def _of_chat(content: Any) -> list[Token]:
    first = content[0] if isinstance(content, list) else None
    top = first.get("top_logprobs") if isinstance(first, dict) else None
    if not isinstance(top, list) or not all(isinstance(one, dict) for one in top):
        raise Malformed("its log-probabilities are none")
    return [_token(one.get("token"), one.get("logprob"), one.get("id")) for one in top]


def _of_completion(top: Any) -> list[Token]:
    if not isinstance(top, list) or len(top) != 1 or not isinstance(top[0], dict):
        raise Malformed("it has no log-probabilities")
    return [_token(text, value, None) for text, value in top[0].items()]


def _token(text: Any, value: Any, number: Any) -> Token:
    fits = isinstance(text, str) and isinstance(value, int | float) and not isinstance(value, bool)
    if not fits or not value <= SLACK:
        raise Malformed("a log-probability of it is none")
    if named := NAMED_ID.fullmatch(text):
        number = int(named[1])
    return Token(number if isinstance(number, int) else None, text, float(value))
