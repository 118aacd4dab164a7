"""OpenAI-compatible servers: one request for each pair, many at a time, for the log-probabilities of the labels.

If the model's tokenizer is on this machine and the server accepts token ids, it receives the prompts of the local
engine. A server that supports `logprob_token_ids` (vLLM) then returns the log-probability of each label, others those
of the top tokens. Any other server receives chat messages: its own template makes the prompt, and nothing is
truncated. Probes before the first pair determine the style of the requests. A label that is not among the top tokens
has probability 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, product
from typing import TYPE_CHECKING, Any

from lbr_cli.core import Answer, Batch, Chat, Document, Engine, Family, NextToken, Request
from lbr_cli.engines import UNLIMITED, ComputeSpec, Settings
from lbr_cli.engines.http_client import Client, json_object, listed_model
from lbr_cli.engines.in_flight import in_flight
from lbr_cli.engines.openai.answers import AmbiguousLabel, TopLogprobs, label_logprobs, parse_logprobs, top_k
from lbr_cli.engines.prompts import Prompt, check_family, narrowed, prompt_digest
from lbr_cli.engines.response_errors import BadResponse, InvalidResponses, InvalidValue, Refused
from lbr_cli.errors import ComputeError, MissingError, RequestError, RunError, UsageError
from lbr_cli.models import LocalModel, ServedModel

if TYPE_CHECKING:
    from lbr_cli.engines.token_prompts import TokenPrompts

COMPLETIONS, CHAT_COMPLETIONS = "/completions", "/chat/completions"
TOKENIZER_HINT = "name the model's tokenizer with --tokenizer, for a server that accepts token ids"
TOP_LOGPROBS, FEWER_LOGPROBS = 20, 5  # the maximum of OpenAI, and that of some other servers
SAMPLE = ("which is it", Document("", "It is this one."))
INDISTINCT_SHARE = 0.3  # the largest share of top tokens that are parts of characters, which decode to the same text
PROBED_TOKENS = 5  # tokens in the probe for `logprob_token_ids`
BY_ID = {"return_tokens_as_token_ids": True}  # a field of vLLM; other servers ignore it or refuse it
# greedy decoding: the sampled token is then always among the top tokens
GREEDY = {"temperature": 0, "top_p": 1}


@dataclass(frozen=True, slots=True)
class RequestStyle:
    """How requests are sent: as token ids, or as chat messages if `ids` is None.

    `labels` means that the server returns the log-probability of each label, else `top` is how many top tokens it
    returns. `limit` is its field for the length of an answer. `extra` adds the field that requests token ids.
    """

    name: str
    ids: TokenPrompts | None
    labels: bool = False
    top: int = TOP_LOGPROBS
    limit: str = "max_tokens"
    extra: bool = True

    @property
    def manner(self) -> str:
        prompt = "token ids" if self.ids else "chat messages"
        return f"{prompt}, {'each label' if self.labels else f'top {self.top} tokens'}"

    def body(self, request: Request, prompt: Prompt | None) -> Mapping[str, Any]:
        """Return the JSON body of a request."""
        body: dict[str, Any] = {"model": self.name, self.limit: 1, **GREEDY}
        if prompt is None or self.ids is None:
            return body | {"messages": messages(request), "logprobs": True, "top_logprobs": self.top}
        body["prompt"] = prompt.ids
        if not self.labels:
            return body | {"logprobs": self.top} | (BY_ID if self.extra else {})
        labels = self.ids.label_ids(request)
        return body | {"logprobs": len(labels)} | logprob_fields(labels)


def prepare(model: ServedModel, settings: Settings) -> OpenAi:
    """Find the model on the server and the style of requests; read the tokenizer, if one is named.

    Raises UsageError for a family whose prompts cannot be sent, MissingError for a missing model, key or
    log-probabilities, RunError for a server that does not answer.
    """
    if settings.server is None:
        raise ValueError("the engine openai needs a server")
    check_family(model.family, "openai")
    tokenizer = model.tokenizer if isinstance(model.tokenizer, LocalModel) else None
    sample = narrowed(NextToken, model.family.requests(*SAMPLE)[0])
    if tokenizer is None and not _is_chat(sample):
        problem = f"the prompt of {model.family.name} is more than chat messages"
        raise UsageError(f"--engine openai: {problem}", hint=TOKENIZER_HINT)
    client = Client(settings.server)
    name, limit = _served_model(client, model)
    ids = _token_prompts(tokenizer, settings, limit) if tokenizer else None
    style = (_by_ids(client, sample, name, ids) if ids else None) or _by_messages(client, sample, name, model.family)
    weights = f"{client.base_url} {name}"
    if style.ids:
        spec = style.ids.spec("server", style.manner, weights)
    else:
        if settings.max_length is not None:
            raise UsageError("--max-length has no effect: the server accepts no token ids, and nothing is truncated")
        digest, dated = prompt_digest(model.family, messages, None)
        spec = ComputeSpec("server", style.manner, UNLIMITED, digest, dated, weights)
    warnings = []
    if ids and not style.ids:
        warnings.append(f"{client.base_url}: accepts no token ids: it receives chat messages, and nothing is truncated")
    if not style.labels and style.top < TOP_LOGPROBS:
        problem = f"returns only the top {style.top} tokens"
        warnings.append(f"{client.base_url}: {problem}; a label that is not among them has probability 0")
    return OpenAi(client, style, spec, warnings)


class OpenAi:
    """Answers `NextToken` requests with a server that has answered the probes. There is nothing to load."""

    window = 1  # requests are independent of each other

    def __init__(self, client: Client, style: RequestStyle, spec: ComputeSpec, warnings: Sequence[str]) -> None:
        self.description = f"{client.base_url}: {style.manner}"
        self.spec = spec
        self.warnings = warnings
        self._client = client
        self._style = style

    def load(self, pairs: int = 0) -> Engine:
        """Return the engine itself."""
        return self

    def check(self, requests: Iterable[Request]) -> None:
        """Raise RequestError for a query without room for a document, if the tokenizer is on this machine."""
        if self._style.ids:
            self._style.ids.check(requests)

    def answer(self, windows: Iterable[Sequence[Request]]) -> Iterator[Batch]:
        """Send the requests in order, and yield their answers as they arrive. The client limits those at the server."""
        for finished in in_flight(chain.from_iterable(windows), self._send, self._client.calls_at_a_time):
            answers = [(request, answer) for request, (answer, _) in finished]
            yield Batch(answers, sum(tokens for _, (_, tokens) in finished))

    def _send(self, request: Request) -> Future[tuple[Answer, int]]:
        """Send a request in another thread. This thread tokenizes, because two must not share a tokenizer."""
        ids = self._style.ids
        prompt, label_ids = (ids.prompt(request), ids.label_ids(request)) if ids else (None, None)
        return self._client.start(partial(self._answer, narrowed(NextToken, request), prompt, label_ids))

    def _answer(self, request: NextToken, prompt: Prompt | None, label_ids: Sequence[int] | None) -> tuple[Answer, int]:
        """Return the answer to a request, and the number of tokens that the server read."""
        style = self._style

        def read(response: Any) -> tuple[list[float], int]:
            logprobs = parse_logprobs(response)
            if prompt is not None and logprobs.read != len(prompt.ids):
                raise BadResponse(f"the server read {logprobs.read} tokens of a prompt of {len(prompt.ids)}")
            if not style.labels and _observed_top(style.top, logprobs) < style.top:
                raise BadResponse(f"{len(logprobs.tokens)} top tokens, and {style.top} at first")
            tokens = logprobs.tokens if style.labels else top_k(logprobs.tokens, style.top)
            values = label_logprobs(tokens, request.labels, label_ids)
            if style.labels and any(value == -float("inf") for value in values):
                raise BadResponse("the log-probability of a label is missing")
            return values, logprobs.read

        path = CHAT_COMPLETIONS if prompt is None else COMPLETIONS
        try:
            values, tokens = self._client.post(path, style.body(request, prompt), read)
        except InvalidResponses as error:
            if isinstance(error.last, InvalidValue):
                raise ComputeError(str(error), request) from None
            raise
        except Refused as error:
            if not error.status:  # the server has returned log-probabilities for the probe
                raise RequestError("the server returns no log-probabilities", request) from None
            if not error.is_request_specific:
                raise RunError(f"{self._client.base_url}: {error}") from None
            hint = TOKENIZER_HINT if prompt is None else ""  # the text may be too long: a tokenizer would truncate it
            raise RequestError(f"the server refuses it: {error}", request, hint=hint) from None
        except AmbiguousLabel as error:
            raise RequestError(
                f"ambiguous label: two tokens of the server have the text {str(error)!r}", request, hint=TOKENIZER_HINT
            ) from None
        return Answer(values, prompt.truncated if prompt else False), tokens


def messages(request: Request) -> list[dict[str, str]]:
    """Return a request as chat messages."""
    prompt = narrowed(NextToken, request)
    if not isinstance(prompt.template, Chat) or prompt.template.assistant_prefix:
        raise TypeError("a request without a chat template has no messages")
    system = [{"role": "system", "content": prompt.template.system}] if prompt.template.system else []
    text = "".join((*prompt.before, prompt.document, *prompt.after))
    return [*system, {"role": "user", "content": text}]


def logprob_fields(tokens: Sequence[int]) -> dict[str, Any]:
    """Return the fields with which vLLM returns the log-probabilities of `tokens`."""
    return {"logprob_token_ids": list(tokens), **BY_ID}


def _token_prompts(tokenizer: LocalModel, settings: Settings, limit: int) -> TokenPrompts:
    from lbr_cli.engines.token_prompts import TokenPrompts  # imports transformers

    return TokenPrompts(tokenizer, settings, "openai", limit)


def _is_chat(request: NextToken) -> bool:
    """Return whether a prompt consists of chat messages, without a prefix of the answer."""
    return isinstance(request.template, Chat) and not request.template.assistant_prefix


def _served_model(client: Client, model: ServedModel) -> tuple[str, int]:
    """Return the server's name of the model, and its limit of tokens. MissingError if its list lacks the model."""
    entry = listed_model(client, model)
    if entry is None:
        return model.label, UNLIMITED
    length = entry.get("max_model_len")
    return str(entry.get("id")), length if isinstance(length, int) and length > 1 else UNLIMITED


def _by_ids(client: Client, request: NextToken, name: str, ids: TokenPrompts) -> RequestStyle | None:
    """Return the style of requests with token ids; None if the server does not accept them."""
    prompt = ids.prompt(request)
    probed = sorted(set(prompt.ids))[:PROBED_TOKENS]  # tokens of the prompt are unlikely to be top tokens

    def read(response: Any) -> TopLogprobs:
        choices = json_object(response).get("choices")
        if isinstance(choices, list) and len(choices) > 1:
            raise Refused("it reads token ids as several prompts")
        return parse_logprobs(response)

    def probe(style: RequestStyle, fields: Mapping[str, Any]) -> TopLogprobs | None:
        try:
            answer = client.post(COMPLETIONS, {**style.body(request, prompt), **fields}, read)
        except Refused:
            return None
        except RunError as error:
            raise RunError(str(error), hint="if the server accepts no token ids, leave out --tokenizer") from error
        return answer if answer.read == len(prompt.ids) else None

    style = RequestStyle(name, ids, labels=True)
    answer = probe(style, {"logprobs": len(probed)} | logprob_fields(probed))
    if answer and set(probed) <= {token.id for token in answer.tokens}:
        return style
    for top, extra in product((TOP_LOGPROBS, FEWER_LOGPROBS), (True, False)):
        style = RequestStyle(name, ids, top=top, extra=extra)
        answer = probe(style, {})
        if answer:
            return replace(style, top=_observed_top(top, answer))
    return None


def _observed_top(top: int, answer: TopLogprobs) -> int:
    """Return how many of `top` requested tokens a server returns; some of them may decode to the same text."""
    return len(answer.tokens) if len(answer.tokens) < top * (1 - INDISTINCT_SHARE) else top


def _by_messages(client: Client, request: NextToken, name: str, family: Family) -> RequestStyle:
    """Return the style of requests with chat messages. MissingError if the server returns no log-probabilities."""
    if not _is_chat(request):
        problem = f"accepts no token ids, and the prompt of {family.name} is more than messages"
        raise MissingError(f"{client.base_url}: {problem}")
    refused = ""
    for top, limit in product((TOP_LOGPROBS, FEWER_LOGPROBS), ("max_tokens", "max_completion_tokens")):
        style = RequestStyle(name, None, top=top, limit=limit)
        try:
            answer = client.post(CHAT_COMPLETIONS, style.body(request, None), parse_logprobs)
        except Refused as error:
            refused = refused or str(error)
        else:
            return replace(style, top=_observed_top(top, answer))
    if refused.startswith("404"):
        hint = "" if client.base_url.endswith("/v1") else "the URL of most servers ends in /v1"
        raise MissingError(f"{client.base_url}: has no /chat/completions: {refused}", hint=hint)
    raise MissingError(f"{client.base_url}: returns no log-probabilities: {refused}")
