"""Requests for vectors of a text: one of the whole text, or one of each of its tokens."""

from __future__ import annotations

from collections.abc import Hashable
from typing import ClassVar, NamedTuple

from lbr_cli.value_types import value


class _PromptedText:
    """A text after a prompt, with the names of other requests for these parts."""

    __slots__ = ()
    text: str
    prompt: str
    suffix: ClassVar[Hashable] = ()  # nothing but an expansion follows the text

    @property
    def document(self) -> str:
        """The text, which may be a query's."""
        return self.text

    @property
    def prefix(self) -> Hashable:
        """The prompt, which precedes the text."""
        return self.prompt


@value
class Embedding(_PromptedText):
    """Ask for the vector of a text after a prompt. The values of the answer are its components.

    `max_length` is a limit in tokens for texts of this role, which may be lower than that of the model.
    """

    text: str
    prompt: str = ""
    max_length: int | None = None


@value
class Expansion:
    """Query expansion: a query shorter than `length` tokens is padded with `token`; each padding token has a vector.

    The model attends to the padding if `attended`. If `token` is None, it is the mask token of the tokenizer or, if
    there is none, the token that ends a text.
    """

    length: int
    attended: bool = False
    token: str | None = None


@value
class TokenEmbeddings(_PromptedText):
    """Ask for the vectors of the tokens of a text after a prompt. The values of the answer are a matrix.

    It has one row for each token, except tokens of a document that the model leaves out of its scores. `max_length` is
    as in `Embedding`. `with_tokens` adds the tokens of the rows to the answer.
    """

    text: str
    is_query: bool
    prompt: str = ""
    max_length: int | None = None
    expansion: Expansion | None = None
    with_tokens: bool = False


class Token(NamedTuple):
    """A token of a text, and where it is in the text, in characters; None for a token outside the text."""

    text: str
    start: int | None = None
    end: int | None = None
