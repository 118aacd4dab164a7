"""OpenAI-compatible servers: one request for each pair, many at a time, for the log-probabilities of the labels.

If the model's tokenizer is on this machine and the server accepts token ids, it receives the prompts of the local
engine. A server that supports `logprob_token_ids` (vLLM) then returns the log-probability of each label, others those
of the top tokens. Any other server receives chat messages: its own template makes the prompt, and nothing is
truncated. Probes before the first pair find out which of these applies. A label that is not among the top tokens has
probability 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import chain
from typing import Any

from lbr_cli.core import Answer, Batch, Chat, Document, Engine, NextToken, Request
from lbr_cli.engines import UNLIMITED, Settings, Terms
from lbr_cli.engines.in_flight import in_flight
from lbr_cli.engines.openai.answers import Told, TwoAlike, likeliest, told, values_of
from lbr_cli.engines.openai.client import Client, Malformed, Refused
from lbr_cli.engines.prompts import Prompt, prompt_digest
from lbr_cli.engines.token_prompts import TokenPrompts, as_next_token, check_family
from lbr_cli.errors import MissingError, RequestError, RunError, UsageError
from lbr_cli.models import Model

MOST, FEWER = 20, 5  # likeliest tokens: what OpenAI allows, and what others do
SAMPLE = ("which is it", Document("", "It is this one."))
ALIKE = 0.3  # of the likeliest tokens, at most: parts of letters that all read as no letter
CHECKED = 5  # tokens that a server is asked for to see whether it knows `logprob_token_ids`
# the likeliest token is drawn, which is told anyway: another, told besides, would let chance decide what counts
BY_ID = {"return_tokens_as_token_ids": True}  # beyond OpenAI's fields, of vLLM; others pass over it or refuse it
GREEDY = {"temperature": 0, "top_p": 1}


@dataclass(frozen=True, slots=True)
class Form:
    """How a server is asked. `ids` None is chat messages; `labels` says that it tells the tokens it is asked for.

    `top` is how many of the likeliest tokens it tells, `limit` what it calls the length of an answer. `extra` asks for
    the ids of tokens, in a field beyond OpenAI's.
    """

    name: str
    ids: TokenPrompts | None
    labels: bool = False
    top: int = MOST
    limit: str = "max_tokens"
    extra: bool = True

    @property
    def manner(self) -> str:
        what = "token ids" if self.ids else "chat messages"
        return f"{what}, {'each label' if self.labels else f'the {self.top} likeliest tokens'}"

    def body(self, request: Request, prompt: Prompt | None) -> Mapping[str, Any]:
        """What is sent, less what the library adds."""
        asked = as_next_token(request)
        body: dict[str, Any] = {"model": self.name, self.limit: 1, **GREEDY}
        if prompt is None or self.ids is None:
            return body | {"messages": messages(request), "logprobs": True, "top_logprobs": self.top}
        body["prompt"] = prompt.ids
        if not self.labels:
            return body | {"logprobs": self.top} | ({"extra_body": BY_ID} if self.extra else {})
        labels = self.ids.label_ids(asked)
        return body | {"logprobs": len(labels), "extra_body": naming(labels)}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A server that has answered, and how it is asked from now on."""

    client: Client
    form: Form
    concurrency: int
    terms: Terms
    warnings: Sequence[str]

    def load(self, pairs: int = 0) -> Engine:
        return OpenAi(self.client, self.form, self.concurrency)


def prepare(model: Model | None, settings: Settings) -> Prepared:
    """Ask the server what it has and how it can be asked; read the tokenizer, if one is named.

    Raises UsageError for a family that cannot be asked this way, MissingError for a model, a key or log-probabilities
    that are not there, RunError for a server that does not answer.
    """
    if model is None or settings.server is None:
        raise ValueError("a server needs its address and a model")
    if find_spec("openai") is None:
        raise MissingError("--engine openai: openai is not installed", hint="pip install 'lbr-cli[openai]'")
    check_family(model, "openai")
    if model.folder is None and not _is_chat(model):
        what = f"the prompt of {model.known_family.name} is more than chat messages"
        raise UsageError(f"--engine openai: {what}", hint=TOKENIZER_HINT)
    client = Client(settings.server)
    name, limit = _found(client, model)
    ids = TokenPrompts(model, settings, "openai", limit) if model.folder else None
    form = (_by_ids(client, model, name, ids) if ids else None) or _by_messages(client, model, name)
    weights = f"{client.base_url} {name}"
    if form.ids:
        terms = form.ids.terms("server", form.manner, weights)
    else:
        if settings.max_length is not None:
            raise UsageError("--max-length has no effect: the server takes no token ids, and nothing is shortened")
        digest, dated = prompt_digest(model.known_family, messages, None)
        terms = Terms("server", form.manner, UNLIMITED, digest, dated, weights)
    warnings = []
    if ids and not form.ids:
        warnings.append(f"{client.base_url}: takes no token ids: it is sent chat messages, and nothing is shortened")
    if not form.labels and form.top < MOST:
        told = f"tells no more than the {form.top} likeliest tokens"
        warnings.append(f"{client.base_url}: {told}, and a label that is not among them counts as probability 0")
    return Prepared(client, form, settings.server.concurrency, terms, warnings)


class OpenAi:
    """Answers `NextToken` requests."""

    window = 1  # requests are independent of each other

    def __init__(self, client: Client, form: Form, concurrency: int) -> None:
        self.description = f"{client.base_url}: {form.manner}"
        self._client = client
        self._form = form
        self._concurrency = concurrency

    def check(self, requests: Iterable[Request]) -> None:
        """Raise RequestError for a query without room for a document, if the tokenizer is on this machine."""
        if self._form.ids:
            self._form.ids.check(requests)

    def answer(self, windows: Iterable[Sequence[Request]]) -> Iterator[Batch]:
        """Send the requests in their order, as many at a time as the server may be given."""
        for finished in in_flight(chain.from_iterable(windows), self._send, self._concurrency):
            answers = [(request, answer) for request, (answer, _) in finished]
            yield Batch(answers, sum(tokens for _, (_, tokens) in finished))

    def _send(self, request: Request) -> Future[tuple[Answer, int]]:
        prompt = self._form.ids.prompt(request) if self._form.ids else None
        return self._client.start(self._answer(as_next_token(request), prompt))

    async def _answer(self, request: NextToken, prompt: Prompt | None) -> tuple[Answer, int]:
        """The answer to a request, and how many tokens the server read for it."""
        form = self._form
        ids = form.ids.label_ids(request) if form.ids else None

        def read(response: Mapping[str, Any]) -> tuple[list[float], int]:
            given = told(response)
            if prompt is not None and given.read != len(prompt.ids):
                raise Malformed(f"it read {given.read} tokens and was sent {len(prompt.ids)}")
            if not form.labels and _really(form.top, given) < form.top:
                raise Malformed(f"it returned {len(given.tokens)} top tokens, and {form.top} at first")
            tokens = given.tokens if form.labels else likeliest(given.tokens, form.top)
            values = values_of(tokens, request.labels, ids)
            if form.labels and any(value == -float("inf") for value in values):
                raise Malformed("it did not return every label")
            return values, given.read

        send = self._client.chat if prompt is None else self._client.complete
        try:
            values, tokens = await send(form.body(request, prompt), read)
        except Refused as error:
            if not error.about_it:
                raise RunError(f"{self._client.base_url}: {error}") from None
            hint = TOKENIZER_HINT if prompt is None else ""  # it may be too long
            raise RequestError(f"the server refuses it: {error}", request, hint=hint) from None
        except TwoAlike as error:
            raise RequestError(f"two tokens of the server read {str(error)!r}", request, hint=TOKENIZER_HINT) from None
        return Answer(values, prompt.truncated if prompt else False), tokens


TOKENIZER_HINT = "name the model's tokenizer with --tokenizer, for a server that takes token ids"


def messages(request: Request) -> list[dict[str, str]]:
    """A request as a chat."""
    asked = as_next_token(request)
    if not isinstance(asked.template, Chat) or asked.template.assistant_prefix:
        raise TypeError("this request is no chat")
    system = [{"role": "system", "content": asked.template.system}] if asked.template.system else []
    text = "".join((*asked.before, asked.document, *asked.after))
    return [*system, {"role": "user", "content": text}]


def naming(tokens: Sequence[int]) -> dict[str, Any]:
    """Fields beyond OpenAI's by which vLLM is asked for these tokens, told by their ids."""
    return {"logprob_token_ids": list(tokens), **BY_ID}


def _is_chat(model: Model) -> bool:
    """Whether a model is asked by messages, and by nothing that goes on in the answer."""
    template = as_next_token(model.known_family.requests(*SAMPLE)[0]).template
    return isinstance(template, Chat) and not template.assistant_prefix


def _found(client: Client, model: Model) -> tuple[str, int]:
    """What the server calls the model, and how many tokens it reads of it, as far as it says."""
    listed = client.models()
    if listed is None:
        return model.served, UNLIMITED
    lengths = {str(one.get("id")): one.get("max_model_len") for one in listed}
    for name in (model.served, model.known_as):
        if name in lengths:
            length = lengths[name]
            return name, length if isinstance(length, int) and length > 1 else UNLIMITED
    shown = ", ".join(client.shown(name) for name in list(lengths)[:10]) + (", …" if len(lengths) > 10 else "")
    raise MissingError(f"{client.base_url}: has no model {model.served}", hint=f"--model is one of: {shown}")


def _by_ids(client: Client, model: Model, name: str, ids: TokenPrompts) -> Form | None:
    """How a server is sent token ids; None if it takes none."""
    request = as_next_token(model.known_family.requests(*SAMPLE)[0])
    prompt = ids.prompt(request)
    some = sorted(set(prompt.ids))[:CHECKED]  # of the prompt itself: hardly the likeliest answers

    def read(answer: Mapping[str, Any]) -> Told:
        choices = answer.get("choices")
        if isinstance(choices, list) and len(choices) > 1:
            raise Refused("it takes token ids for several prompts")
        return told(answer)

    def try_out(form: Form, more: Mapping[str, Any]) -> Told | None:
        try:
            answer = client.start(client.complete({**form.body(request, prompt), **more}, read)).result()
        except Refused:
            return None
        except RunError as error:
            raise RunError(str(error), hint=f"if it takes no token ids, leave out --tokenizer {model.place}") from error
        return answer if answer.read == len(prompt.ids) else None

    form = Form(name, ids, labels=True)
    answer = try_out(form, {"logprobs": len(some), "extra_body": naming(some)})
    if answer and set(some) <= {token.id for token in answer.tokens}:
        return form
    for top in (MOST, FEWER):
        for extra in (True, False):
            form = Form(name, ids, top=top, extra=extra)
            answer = try_out(form, {})
            if answer:
                return replace(form, top=_really(top, answer))
    return None


def _really(top: int, answer: Told) -> int:
    """How many tokens a server tells that was asked for `top`; of those told by their text, a few may be alike."""
    return len(answer.tokens) if len(answer.tokens) < top * (1 - ALIKE) else top


def _by_messages(client: Client, model: Model, name: str) -> Form:
    """How a server is sent messages."""
    if not _is_chat(model):
        family = model.known_family.name
        raise MissingError(f"{client.base_url}: takes no token ids, and the prompt of {family} is more than messages")
    request = model.known_family.requests(*SAMPLE)[0]
    refused = ""
    for top in (MOST, FEWER):
        for limit in ("max_tokens", "max_completion_tokens"):
            form = Form(name, None, top=top, limit=limit)
            try:
                answer = client.start(client.chat(form.body(request, None), told)).result()
            except Refused as error:
                refused = refused or str(error)
                continue
            return replace(form, top=_really(top, answer))
    if refused.startswith("404"):
        hint = "" if client.base_url.endswith("/v1") else "the URL of most servers ends in /v1"
        raise MissingError(f"{client.base_url}: has no /chat/completions: {refused}", hint=hint)
    raise MissingError(f"{client.base_url}: tells no probabilities of tokens: {refused}")
