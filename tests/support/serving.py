"""An OpenAI-compatible server for tests: a plain transformers model with the response formats of real servers.

It computes each prompt alone, in float32, with the logits of the last token, and shares nothing with lbr but the
checkpoint. `Behaviour` defines which server it imitates. `failure` returns what goes wrong with a request, given its
number; "" for nothing.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
import transformers

KEY = "sk-very-secret-0123456789"


@dataclass(frozen=True)
class Behaviour:
    """The requests that a server accepts, and the responses that it returns.

    `labels`: it supports `logprob_token_ids`. `most` is the maximum of top log-probabilities, and `reads` the maximum
    length of a prompt in tokens. `listed` are the names at /models; None is 404.
    """

    takes_ids: bool = True
    labels: bool = True
    most: int = 20
    as_chat: bool = False  # answers completions in the shape of chats, as llama.cpp's server does
    strict: bool = False  # refuses fields that it does not know
    has_logprobs: bool = True
    limit: str = "max_tokens"
    reads: int | None = 600
    listed: tuple[str, ...] | None = ("tiny",)
    caps: int | None = None  # how many log-probabilities it returns if more are requested


VLLM = Behaviour()
LLAMA = Behaviour(labels=False, most=1000, as_chat=True, reads=None)
CHAT_ONLY = Behaviour(takes_ids=False, labels=False)
TOP_5 = Behaviour(takes_ids=False, labels=False, most=5)
HOSTED = Behaviour(takes_ids=False, labels=False, strict=True, limit="max_completion_tokens", listed=None)
NO_LOGPROBS = Behaviour(takes_ids=False, has_logprobs=False)

BAD_VALUES = {"nan": float("nan"), "positive": 3.5, "text": "-1", "null": None}
Failure = Callable[[int], str]


def no_failure(number: int) -> str:
    return ""


@dataclass
class Serving:
    """A server that is running. `prompts` are the token ids of the prompts that it has answered."""

    url: str
    prompts: list[tuple[int, ...]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    request_count: int = 0
    at_once: int = 0
    most_at_once: int = 0


class Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@contextmanager
def serving(
    folder: Path, behaviour: Behaviour = VLLM, failure: Failure = no_failure, key: str = "", port: int = 0
) -> Iterator[Serving]:
    """Serve the model of `folder` on a local port, a free one by default."""
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    lock = threading.Lock()

    @lru_cache(None)
    def log_probabilities(ids: tuple[int, ...]) -> Any:
        with lock, torch.inference_mode():
            return model(torch.tensor([ids])).logits[0, -1].double().log_softmax(-1)

    def named(number: int, as_ids: bool) -> str:
        return f"token_id:{number}" if as_ids else str(tokenizer.decode([number]))

    def top_tokens(ids: tuple[int, ...], count: int, drawn: int) -> list[int]:
        top: list[int] = log_probabilities(ids).topk(min(count, behaviour.caps or count)).indices.tolist()
        return top if drawn in top else [drawn, *top]

    def answer(path: str, body: dict[str, Any]) -> dict[str, Any]:
        if behaviour.strict and set(body) & {"logprob_token_ids", "return_tokens_as_token_ids"}:
            raise Refusal(400, f"Unrecognized request argument supplied ({key})")
        if "max_completion_tokens" in body and behaviour.limit == "max_tokens":
            raise Refusal(400, "unknown max_completion_tokens")
        if "max_tokens" in body and behaviour.limit != "max_tokens":
            raise Refusal(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        if behaviour.listed is not None and body["model"] not in behaviour.listed:
            raise Refusal(404, "no such model")
        chat = path.endswith("/chat/completions")
        if chat:
            ids = tuple(
                tokenizer.apply_chat_template(body["messages"], tokenize=True, add_generation_prompt=True).input_ids
            )
            count = body.get("top_logprobs") or 0
        else:
            if not behaviour.takes_ids:
                raise Refusal(422, "prompt: Input should be a valid string")
            ids, count = tuple(body["prompt"]), body.get("logprobs") or 0
        if count > behaviour.most:
            raise Refusal(400, f"top_logprobs may be {behaviour.most} at most")
        if behaviour.reads is not None and len(ids) >= behaviour.reads:
            raise Refusal(400, f"This model's maximum context length is {behaviour.reads} tokens")
        values = log_probabilities(ids)
        # without greedy decoding: the least likely token, the worst that a server could sample
        drawn = int(values.argmax() if body.get("temperature") == 0 else values.argmin())
        labels = body.get("logprob_token_ids") if behaviour.labels else None
        as_ids = behaviour.labels and bool(body.get("return_tokens_as_token_ids"))
        tokens = [drawn, *labels] if labels else top_tokens(ids, count, drawn)
        state.prompts.append(ids)
        listed = [{"id": number, "token": named(number, as_ids), "logprob": float(values[number])} for number in tokens]
        if chat and not behaviour.as_chat:
            listed = [{name: value for name, value in token.items() if name != "id"} for token in listed]
        first = {"token": tokenizer.decode([drawn]), "logprob": float(values[drawn]), "top_logprobs": listed}
        logprobs: Any = {"content": [first]}
        if not chat and not behaviour.as_chat:
            logprobs = {"top_logprobs": [{named(number, as_ids): float(values[number]) for number in tokens}]}
        choice = {"index": 0, "logprobs": logprobs if behaviour.has_logprobs else None, "finish_reason": "length"}
        return {"choices": [choice], "usage": {"prompt_tokens": len(ids), "completion_tokens": 1}}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None: ...

        def do_GET(self) -> None:
            self._do(lambda: models())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.bodies.append(body)
            self._do(lambda: answer(self.path, body))

        def _do(self, work: Callable[[], dict[str, Any]]) -> None:
            with lock:
                number = state.request_count
                state.request_count += 1
                state.at_once += 1
                state.most_at_once = max(state.most_at_once, state.at_once)
                state.headers.append({name.lower(): value for name, value in self.headers.items()})
            try:
                wrong = failure(number)
                if key and self.headers.get("Authorization") != f"Bearer {key}":
                    raise Refusal(401, f"Incorrect API key provided: {self.headers.get('Authorization')}")
                if wrong.isdecimal():
                    raise Refusal(int(wrong), f"failure, {key}")
                if wrong == "cut":  # before the response
                    self.close_connection = True
                    return
                self._send(200, json.dumps(corrupted(work(), wrong)).encode(), wrong)
            except Refusal as error:
                body = {"error": {"message": str(error), "code": error.status}}
                self._send(error.status, json.dumps(body).encode(), "")
            finally:
                with lock:
                    state.at_once -= 1

        def _send(self, status: int, content: bytes, wrong: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if wrong == "page" else "application/json")
            self.send_header("Content-Length", str(len(content)))
            if status == 429:
                self.send_header("Retry-After", "0.01")
            if status == 307:
                self.send_header("Location", "http://127.0.0.1:9/v1/elsewhere")
            self.end_headers()
            if wrong == "malformed":
                content = content[: len(content) // 2].ljust(len(content))
            if wrong == "page":
                content = b"<html>Bad Gateway".ljust(len(content))
            if wrong == "short":  # in the middle of the response
                content, self.close_connection = content[: len(content) // 2], True
            self.wfile.write(content)

    def models() -> dict[str, Any]:
        if behaviour.listed is None:
            raise Refusal(404, "Not Found")
        return {"data": [{"id": name, "max_model_len": behaviour.reads} for name in behaviour.listed]}

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    state = Serving(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def corrupted(answer: dict[str, Any], wrong: str) -> Any:
    """Return the response with the fault `wrong`, still as JSON."""
    if wrong == "list":
        return [answer]
    if wrong == "empty":
        return {"choices": []}
    if wrong == "bare" and "choices" in answer:
        answer["choices"][0]["logprobs"] = {"content": []}
    if wrong == "error":
        return {"error": {"message": "overloaded"}}
    if wrong in BAD_VALUES:
        logprobs = answer["choices"][0]["logprobs"]
        if "content" in logprobs:
            logprobs["content"][0]["top_logprobs"][0]["logprob"] = BAD_VALUES[wrong]
        else:
            top = logprobs["top_logprobs"][0]
            top[next(iter(top))] = BAD_VALUES[wrong]
    if wrong == "other":  # as if the server had read another prompt
        answer["usage"]["prompt_tokens"] += 1
    return answer
