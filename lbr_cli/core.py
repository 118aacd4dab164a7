"""The nouns of reranking, and the two roles that a score needs.

A *run* is an iterable of `Ranking`s. Reranking turns each into `Scored` lines. A `Family` knows what to ask a model
about a query and a document and how to read a score from what it answers; an `Engine` knows how to compute answers.
Between the two pass three kinds of request and one kind of answer, so that neither has to know the other.

Names are those of ir_datasets and ir_measures. Standard library only: nothing here computes, reads or writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol


@dataclass(frozen=True, slots=True)
class Query:
    """What was searched for. `text` is None while only the id is known."""

    query_id: str
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """What may answer a query."""

    doc_id: str
    text: str
    title: str = ""

    @property
    def contents(self) -> str:
        """What a model reads: the title, one space, the text; or the one of them that is there."""
        return f"{self.title} {self.text}" if self.title and self.text else self.title or self.text


@dataclass(frozen=True, slots=True)
class Candidate:
    """A document proposed for a query, as a line of the input said it.

    `document` is None while its text is not known, `score` and `rank` are those of the first stage, and `extra`
    holds the keys of a JSONL line that have no meaning here and come out again as they were.
    """

    doc_id: str
    document: Document | None = None
    score: float | None = None
    rank: int | None = None
    extra: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """One query and its candidates, in the order of the input."""

    query: Query
    candidates: Sequence[Candidate]


@dataclass(frozen=True, slots=True)
class Scored:
    """A line of the output. Ranks count from 1; `score` is None for what no model has read."""

    candidate: Candidate
    first_stage_rank: int
    rank: int
    score: float | None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chat:
    """The model's own chat template around the texts: a system line (none if empty), the texts as the user's turn.

    `answer` is how the model is made to begin its answer.
    """

    system: str = ""
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Verbatim:
    """No template: these strings around the texts, in which special tokens are spelt out.

    `adds` says which special tokens come besides: none, the one that begins a text where the tokenizer has one
    ("bos"), or all that the tokenizer puts around any text.
    """

    before: str = ""
    after: str = ""
    adds: Literal["none", "bos", "all"] = "none"


@dataclass(frozen=True, slots=True)
class NextToken:
    """Ask a model which token comes next.

    The prompt is `frame` around `before`, `document`, `after`. The strings of `before` and `after` are turned into
    tokens one by one, save that the document belongs to the last of `before` and the first of `after`; each of the
    two holds one string at least. Special tokens spelt out in them stay plain text. Only the document may be shortened.

    The answer's values are the natural log-probabilities, over the whole vocabulary, of each label being the next
    token or, if `raw`, the logits themselves. A label is the text of a single token, or its name in the vocabulary;
    of a longer one a `raw` request means the first token, any other is refused.
    """

    frame: Chat | Verbatim
    before: tuple[str, ...]
    document: str
    after: tuple[str, ...]
    labels: tuple[str, ...]
    raw: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """Ask a model that reads query and document together. The answer's values are its logits, one or two."""

    query: str
    document: str


@dataclass(frozen=True, slots=True)
class Embedding:
    """Ask for the vector of a text behind a prompt. The answer's values are its components, as the model gives them."""

    text: str
    prompt: str = ""


Request = NextToken | Pair | Embedding


@dataclass(frozen=True, slots=True)
class Answer:
    """What an engine computed for a request.

    `values` is what the request's docstring says, float32 or wider; `truncated` tells whether the document was
    shortened. `tokens` counts what the model has read since the last answer, and `work` how many of the computations
    that `Engine.expect` counted are done with it: none where the answer was known already.
    """

    values: Sequence[float]
    truncated: bool = False
    tokens: int = 0
    work: int = 1


Answered = Sequence[tuple[Request, Answer]]  # of one batch


@dataclass(frozen=True, slots=True)
class Score:
    """How well a document answers a query: higher is better, on the scale that the family documents.

    `detail` is what `--explain` adds to the output. `doubt`, if not empty, says why this score may mean nothing.
    """

    value: float
    detail: Mapping[str, Any] = field(default_factory=dict)
    doubt: str = ""


class Family(Protocol):
    """What to ask a model and how to read its answers. Pure: the same texts give the same requests.

    A frozen dataclass, whose fields are what a user may choose: an instruction, labels.
    """

    name: ClassVar[str]
    scale: ClassVar[str]  # of its scores, in a line
    asks: ClassVar[type[Request]]
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def requests(self, query: str, document: Document) -> tuple[Request, ...]:
        """What has to be known to score this pair; of several, the first is what the pairs of a query share."""
        ...

    def score(self, answers: Sequence[Answer]) -> Score:
        """The score, from the answers to `requests` in their order."""
        ...


class Engine(Protocol):
    """Who computes. The only code that sees torch, a tokenizer or a network."""

    @property
    def setting(self) -> str:
        """Where and how it computes, in a few words for the closing summary: "cpu, bfloat16"."""
        ...

    def expect(self, requests: Iterable[Request]) -> int:
        """Hear what a job is going to ask, before its first question, and count the computations it takes.

        Lets an engine refuse at once what it could not answer hours later, and plan its batches over the whole
        job. `requests` may be gone through more than once. Raises `RequestError` for a request that cannot be
        answered.
        """
        ...

    def answer(self, requests: Sequence[Request]) -> Iterator[Answered]:
        """Yield what each batch gave: an answer once for each request, in whatever order is fastest.

        A batch may bring answers to requests that were announced and are not asked yet, where computing them together
        is faster; they are given again when they are asked. Raises `RequestError` for a request that cannot be
        answered, with a place in `requests`.
        """
        ...


class Listener(Protocol):
    """Who hears how a job goes. The library tells; only a command decides what a person sees."""

    def stage(self, what: str) -> None:
        """Something slow begins: "reading docs.jsonl"."""
        ...

    def note(self, message: str) -> None:
        """A choice that was made for the user and may be silenced."""
        ...

    def warn(self, message: str) -> None:
        """Something that the user has to know."""
        ...

    def begin(self, queries: int, pairs: int, work: int) -> None:
        """Scoring begins; `work` is what `Engine.expect` counted, and time goes by it."""
        ...

    def advance(self, *, queries: int = 0, pairs: int = 0, cached: int = 0, tokens: int = 0, work: int = 0) -> None:
        """So many more are done; `cached` of the pairs were known."""
        ...

    def aside(self) -> AbstractContextManager[None]:
        """Results are written in this block: whatever stands on the same screen has to make room."""
        ...
