"""The types of reranking, and the two roles that compute a score.

A *run* is an iterable of `Ranking`s. Reranking turns each `Ranking` into `RankedCandidate`s. A `Family` defines what to
ask a model about a query and a document, and how to compute a score from the answers. An `Engine` computes answers.
They exchange a few kinds of request and one kind of answer, so that neither depends on the other; `encodings.py` has
the requests for vectors.

Names are those of ir_datasets and ir_measures. Nothing here computes, reads or writes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import field
from typing import Any, ClassVar, Literal, Protocol

from lbr_cli.encodings import Embedding as Embedding
from lbr_cli.encodings import Expansion as Expansion
from lbr_cli.encodings import Token as Token
from lbr_cli.encodings import TokenEmbeddings as TokenEmbeddings
from lbr_cli.value_types import value


@value
class Query:
    """A query. `text` is None while only the id is known. `instruction` replaces that of the family."""

    query_id: str
    text: str | None = None
    instruction: str | None = None
    instruction_at: str = field(default="", compare=False)  # FILE:LINE of the instruction, for messages
    record: Mapping[str, Any] | None = field(default=None, compare=False)  # JSON, of formats that write it again


@value
class Document:
    """A document, or a passage of one."""

    doc_id: str
    text: str
    title: str = ""

    @property
    def contents(self) -> str:
        """The text that a model reads: title, one space and text, or only one of them if the other is empty."""
        return f"{self.title} {self.text}" if self.title and self.text else self.title or self.text


@value
class Candidate:
    """A document proposed for a query, from one line of the input. `score` and `rank` are those of the first stage."""

    doc_id: str
    document: Document | None = None  # None while its text is not known
    score: float | None = None
    rank: int | None = None
    extra: Mapping[str, Any] | None = None  # the unknown keys of a JSONL line, which are written again unchanged


@value
class Ranking:
    """One query and its candidates, in the order of the input."""

    query: Query
    candidates: Sequence[Candidate]


@value
class RankedCandidate:
    """One line of the output. Ranks count from 1; `score` is None for a candidate that no model has scored."""

    candidate: Candidate
    first_stage_rank: int
    rank: int
    score: float | None
    details: Mapping[str, Any] = field(default_factory=dict)


@value
class Chat:
    """The model's own chat template around the texts: a system message (none if empty), the texts as user message."""

    system: str = ""
    assistant_prefix: str = ""  # the beginning of the assistant's answer


@value
class RawTemplate:
    """No chat template: `before` and `after` around the texts, with special tokens written out.

    `special_tokens` are added by the tokenizer: none, the one that begins a text if the tokenizer has one ("bos"), or
    all that it puts around a text.
    """

    before: str = ""
    after: str = ""
    special_tokens: Literal["none", "bos", "all"] = "none"


@value
class PairChat:
    """The model's own chat template around two messages, one with the query and one with the document.

    `system` is a system message before them, none if empty. `variables` are passed to the template. Contents are lists
    of parts if `structured`; None infers this from the template, as sentence-transformers does.
    """

    system: str = ""
    query_role: str = "query"
    document_role: str = "document"
    structured: bool | None = False
    variables: tuple[tuple[str, Any], ...] = ()


@value
class Prompted:
    """A request with a prompt: `template` around `before`, `document` and `after`.

    Each string of `before` and `after` is tokenized on its own, except that the last of `before`, the document and the
    first of `after` are tokenized as one string; neither may be empty. With a `PairChat`, `before` is the query alone
    and `after` one empty string: the template says where each text is. Special tokens written out in the texts stay
    plain text. Only the document may be truncated.
    """

    template: Chat | RawTemplate | PairChat
    before: tuple[str, ...]
    document: str
    after: tuple[str, ...]

    @property
    def prefix(self) -> Hashable:
        """The parts of the prompt before the document."""
        return self.template, self.before

    @property
    def suffix(self) -> Hashable:
        """The parts of the prompt after the document."""
        return self.after


@value
class NextToken(Prompted):
    """Ask a model for the next token after a prompt.

    The values of the answer are, for each label, the natural logarithm of its probability over the whole vocabulary,
    or its logit if `logits` is set. A label is a token id, the text of one token, or its name in the vocabulary. A text
    of several tokens means its first token in a request for logits, and raises an error in any other request.
    """

    labels: tuple[str | int, ...]
    logits: bool = False


@value
class Classification(Prompted):
    """Ask a model with a classification head about a prompt. The values of the answer are its logits, one or two."""


@value
class Pair:
    """Ask a model that reads query and document together. The values of the answer are its logits, one or two."""

    query: str
    document: str
    suffix: ClassVar[Hashable] = ()  # no text follows the document

    @property
    def prefix(self) -> Hashable:
        """The query, which precedes the document."""
        return self.query


Request = Prompted | Pair | Embedding | TokenEmbeddings


@value
class Answer:
    """The answer to a request: `values` as its docstring defines them, and whether the document was truncated.

    `values` are float32 or wider; an engine may return vectors and matrices as NumPy arrays. `tokens` are those of the
    rows of a matrix, if the request asks for them.
    """

    values: Sequence[float]
    truncated: bool = False
    tokens: Sequence[Token] = ()


@value
class Batch:
    """Answers that were computed together."""

    answers: Sequence[tuple[Request, Answer]]
    tokens: int = 0  # number of tokens that the model read


@value
class Score:
    """How relevant a document is to a query: higher is better, on the scale that the family documents.

    `details` are added to the output by `--explain`. `warning`, if not empty, says why the score may be meaningless.
    """

    value: float
    details: Mapping[str, Any] = field(default_factory=dict)
    warning: str = ""


class Family(Protocol):
    """Defines the requests for a pair, and computes a score from the answers. Pure: equal texts give equal requests.

    A frozen dataclass; its fields are the options of the family: labels, an `instruction` that a query can replace.
    """

    name: ClassVar[str]
    scale: ClassVar[str]  # the scale of the scores, in one line
    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def request_type(self) -> type[Request]:
        """The type of the requests."""

    @property
    def shares(self) -> Literal["query", "document"]:
        """Which text comes first in the requests, so that work on it can be shared between pairs."""

    def requests(self, query: str, document: Document) -> tuple[Request, ...]:
        """Return the requests that score a pair. If there are several, the first depends on the query alone."""

    def score(self, answers: Sequence[Answer]) -> Score:
        """Return the score, from the answers to `requests` in the same order."""

    def probability(self, score: float) -> float | None:
        """Return the probability of relevance, 0 to 1, of a score; None if the family defines none."""


class Engine(Protocol):
    """Computes answers. The only code that imports torch, a tokenizer or an HTTP client.

    An engine keeps nothing between two calls except weights, connections, workers and memoized pure functions.
    """

    @property
    def description(self) -> str:
        """Where and how it computes, in a few words for the summary: "cpu, bfloat16"."""

    @property
    def window(self) -> int:
        """How many requests it prefers to receive at once, to choose batches among them."""

    def check(self, requests: Iterable[Request]) -> None:
        """Raise `RequestError` if a request cannot be answered. Called before a job that would fail hours later."""

    def answer(self, windows: Iterable[Sequence[Request]]) -> Iterator[Batch]:
        """Yield one answer for each request of all windows, in any order within a window.

        Requests are distinct within a window. `windows` is read when there is room for more work, so an engine with
        many requests in flight begins the next window before it has all answers to this one. Raises `RequestError` for
        a request that cannot be answered.
        """


class Progress(Protocol):
    """Receives the progress of a job. The library reports; only a command decides what to print."""

    def status(self, what: str) -> None:
        """Report that a slow step begins, such as "reading docs.jsonl"."""

    def note(self, message: str) -> None:
        """Report a choice that was made for the user; `--quiet` hides it."""

    def warn(self, message: str) -> None:
        """Report a problem."""

    def start(self, queries: int, pairs: int, cached: int) -> None:
        """Report that scoring begins; `cached` of the pairs need no computation. All are 0 for a stream."""

    def advance(self, *, queries: int = 0, pairs: int = 0, cached: int = 0, tokens: int = 0) -> None:
        """Add finished queries and pairs, how many of the pairs were cached, and the tokens that the model read."""

    def paused(self) -> AbstractContextManager[None]:
        """Hide the progress display in this block, in which results are written to the same terminal."""
