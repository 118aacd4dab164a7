"""Speed of scoring, compared with other loops and libraries: python benchmarks/scoring.py MODEL [options]

MODEL is a folder with a causal chat model or a cross-encoder. Every contender is a separate process that loads the
model and scores. It runs with all documents and with a quarter of them, in turn with the other contenders; the
difference of the two times is the cost of the remaining documents, without start-up. The results are medians of
`--rounds`.

    textbook    batches of 32 in input order, padding, logits for every token
    one by one  a better plain loop: one pair at a time, logits of the last token only
    sorted      a better plain loop: batches sorted by length, logits of the last token only
    ST          sentence-transformers' CrossEncoder with its best batch size, in float32 and in bfloat16 (encoders)
    lbr         the program `lbr rerank`
    lbr int8    the same with `--dtype int8`
    other       with `--other FOLDER`: `lbr rerank` of another checkout, such as the previous commit
    vLLM        with `--vllm PYTHON`, an interpreter that has vLLM: in process, prefix caching on, token ids
    llama.cpp   with `--llama-server PROGRAM --gguf FILE`: sequential requests, prompt prefix cached, token ids
    ONNX O3, ONNX int8, OpenVINO    with `--peers PYTHON`: see peers.py (encoders)

All score the same prompts in `--dtype`. The limit is the time of the matrix products of the distinct tokens at the
speed at which this machine multiplies matrices, in bfloat16 or float32, whichever is faster. `--growth` measures lbr
with 10, 100 and 1,000 documents a query and with documents of 50 to 4,000 tokens. `--write` writes the table into
benchmarks/README.md and the plot into benchmarks/scoring-NAME.png. `--depth 10` takes only the first ten documents of
each query of a collection: short candidate lists.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from collection import read_collection
from peers import PEERS

HERE = Path(__file__).resolve().parent
LLAMA = "llama.cpp"
QUERY = "how is the boundary layer of a flat plate heated at hypersonic speed"
PROGRAM = ("lbr", "lbr int8", "other")
CAUSAL = ("textbook", "one by one", "sorted", "lbr", "lbr int8")
ENCODER = ("ST", "ST bfloat16", "sorted", "lbr", "lbr int8")
# slow contenders score a part of the documents: 4 means a quarter
DIVISORS = {"textbook": 4, "one by one": 2, "sorted": 2, "vLLM": 2}
MARK = "scores: "
Pairs = list[tuple[str, str]]


# ---------------------------------------------------------------- the texts


def documents(tokenizer: Any, lengths: list[int]) -> list[str]:
    """Return random texts of about so many tokens, made of words of the samples."""
    source = random.Random(0)
    text = (HERE.parent / "samples" / "docs.jsonl").read_text(encoding="utf-8")
    words = re.findall(r"[a-z]{2,}", text)
    tokens_per_word = len(tokenizer(" ".join(words))["input_ids"]) / len(words)
    return [" ".join(source.choices(words, k=max(1, round(length / tokens_per_word)))) for length in lengths]


def usual_lengths(count: int) -> list[int]:
    """Return log-normal lengths, 40 to 700 tokens, scaled to a mean of 175."""
    source = random.Random(1)
    lengths = [min(700.0, max(40.0, source.lognormvariate(5, 0.6))) for _ in range(count)]
    return [round(length * 175 * count / sum(lengths)) for length in lengths]


def collection_pairs(folder: Path, count: int, depth: int | None) -> Pairs:
    """Return the first pairs of a collection's run, at most `depth` of each query."""
    queries, documents, run = read_collection(folder)
    pairs = ((queries[query], documents[doc_id]) for query, ids in run.items() for doc_id in ids[:depth])
    return list(itertools.islice(pairs, count))


# ---------------------------------------------------------------- the contenders, each in a separate process


def prompts(tokenizer: Any, pairs: Pairs) -> list[list[int]]:
    """Return the token ids of the prompts of the family lb."""
    from lbr_cli.core import Chat, Document, NextToken
    from lbr_cli.families import Lb

    rows = []
    for pair in pairs:
        (request,) = Lb().requests(pair[0], Document("", pair[1]))
        assert isinstance(request, NextToken)
        assert isinstance(request.template, Chat)
        user = request.before[0] + request.document + request.after[0]
        turns = [("system", request.template.system), ("user", user)]
        messages = [{"role": role, "content": content} for role, content in turns]
        rows.append(tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"])
    return rows


def prefix_length(rows: list[list[int]]) -> int:
    """Return the length of the prefix that all rows have in common."""
    return sum(1 for _ in itertools.takewhile(lambda tokens: len(set(tokens)) == 1, zip(*rows, strict=False)))


def expectation(tokenizer: Any, logits: Any) -> list[float]:
    """Return the scores of the family lb from the logits of the next token [rows, vocabulary]."""
    digits = [tokenizer.encode(str(digit), add_special_tokens=False)[0] for digit in range(1, 8)]
    shares = logits.float().softmax(-1)[:, digits]
    return [sum(digit * p for digit, p in enumerate(row, 1)) for row in shares.tolist()]


def causal(contender: str, folder: str, dtype: str, pairs: Pairs) -> list[float]:
    """Return the scores of a causal model, by a plain loop with transformers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    rows = prompts(tokenizer, pairs)
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
    batches = {
        "textbook": [list(range(start, min(start + 32, len(rows)))) for start in range(0, len(rows), 32)],
        "one by one": [[index] for index in order],
        "sorted": [order[start : start + 8] for start in range(0, len(order), 8)],
    }[contender]
    scores = [0.0] * len(rows)
    with torch.inference_mode():
        for batch in batches:
            longest = max(len(rows[index]) for index in batch)
            ids = torch.tensor([[0] * (longest - len(rows[index])) + rows[index] for index in batch])
            mask = torch.tensor([[0] * (longest - len(rows[index])) + [1] * len(rows[index]) for index in batch])
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            options: dict[str, Any] = {"use_cache": False, "position_ids": positions}
            if len(batch) > 1:
                options["attention_mask"] = mask
            if contender != "textbook":
                options["logits_to_keep"] = 1
            logits = model(input_ids=ids, **options).logits[:, -1]
            for index, score in zip(batch, expectation(tokenizer, logits), strict=True):
                scores[index] = score
    return scores


def encoder(contender: str, folder: str, dtype: str, pairs: Pairs, size: int = 32) -> list[float]:
    """Return the scores of a cross-encoder, by sentence-transformers or a plain loop with transformers."""
    import torch

    if contender.startswith("ST"):
        from sentence_transformers import CrossEncoder

        kwargs = {"dtype": torch.bfloat16} if contender.endswith("bfloat16") else {}
        model = CrossEncoder(folder, device="cpu", model_kwargs=kwargs, activation_fn=torch.nn.Identity())
        return [float(score) for score in model.predict(pairs, batch_size=size, show_progress_bar=False)]
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    plain = AutoModelForSequenceClassification.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    order = sorted(range(len(pairs)), key=lambda index: -len(pairs[index][1]))
    scores = [0.0] * len(pairs)
    with torch.inference_mode():
        for start in range(0, len(order), 16):
            batch = order[start : start + 16]
            texts = [pairs[index][0] for index in batch], [pairs[index][1] for index in batch]
            encoded = tokenizer(*texts, truncation="only_second", max_length=512, padding=True, return_tensors="pt")
            for index, logit in zip(batch, plain(**encoded).logits[:, 0].float().tolist(), strict=True):
                scores[index] = logit
    return scores


def vllm(folder: str, dtype: str, pairs: Pairs) -> list[float]:
    """Generate one token for each prompt with vLLM. Return no scores."""
    from transformers import AutoTokenizer
    from vllm import LLM, SamplingParams

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = LLM(folder, dtype=dtype, max_model_len=2048, enable_prefix_caching=True)
    options = SamplingParams(max_tokens=1, logprobs=20, temperature=0)
    inputs = [{"prompt_token_ids": row} for row in prompts(tokenizer, pairs)]
    model.generate(inputs, options, use_tqdm=False)
    return []  # only the 20 most likely tokens are returned, and the digits of random weights are not among them


def llama(program: str, gguf: str, folder: str, pairs: Pairs) -> list[float]:
    """Return the scores of llama.cpp's server, with as many threads as there are cores."""
    import urllib3
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    digits = {tokenizer.encode(str(digit), add_special_tokens=False)[0]: digit for digit in range(1, 8)}
    rows = prompts(tokenizer, pairs)
    port, threads = free_port(), str(os.cpu_count())
    command = [program, "-m", gguf, "--port", str(port), "-c", "4096", "-np", "1", "-t", threads, "-fa", "on"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pool = urllib3.HTTPConnectionPool("127.0.0.1", port, timeout=300)
    try:
        while not is_ready(pool):
            if server.poll() is not None:
                sys.exit("llama-server ended")
            time.sleep(0.1)
        scores = []
        for row in rows:
            body = {"prompt": row, "n_predict": 1, "n_probs": 100, "temperature": 0, "cache_prompt": True}
            response = pool.request("POST", "/completion", json=body).json()
            top = response["completion_probabilities"][0]["top_logprobs"]
            scores.append(sum(digits.get(token["id"], 0) * math.exp(token["logprob"]) for token in top))
        return scores
    finally:
        server.kill()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def is_ready(pool: Any) -> bool:
    try:
        return bool(pool.request("GET", "/health", retries=False).status == 200)
    except Exception:  # it does not listen yet
        return False


def contend(contender: str, folder: str, dtype: str, file: str, count: int, size: int) -> None:
    """Score the first pairs of a file with one contender, and print the scores."""
    pairs = [tuple(pair) for pair in json.loads(Path(file).read_text(encoding="utf-8"))[:count]]
    if contender == "vLLM":
        scores = vllm(folder, dtype, pairs)
    elif contender == LLAMA:
        scores = llama(*os.environ["LLAMA"].split(os.pathsep), folder, pairs)
    elif is_causal(folder):
        scores = causal(contender, folder, dtype, pairs)
    else:
        scores = encoder(contender, folder, dtype, pairs, size)
    print(MARK + json.dumps(scores), flush=True)


# ---------------------------------------------------------------- the measurements


def is_causal(folder: str) -> bool:
    return "CausalLM" in json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))["architectures"][0]


class Bench:
    """Runs contenders with one model, and measures their processes."""

    def __init__(
        self,
        folder: str,
        dtype: str,
        python: str | None = None,
        other: Path | None = None,
        peers: str | None = None,
        llama: tuple[str, str] | None = None,
    ) -> None:
        self.folder, self.dtype, self.python, self.peers = str(Path(folder).resolve()), dtype, python, peers
        self.other = other.resolve() if other else None
        self.temporary = tempfile.TemporaryDirectory()
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("OPENBLAS", "LBR_"))
        } | {"PYTHONPATH": str(HERE.parent), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
        self.environment |= {"LLAMA": os.pathsep.join(llama)} if llama else {}
        self.exports = Path(self.temporary.name) / "exports"
        if peers:
            command = [peers, str(HERE / "peers.py"), self.folder, "--exports", str(self.exports)]
            subprocess.run(command, check=True, env=self.environment, capture_output=True)

    def seconds(self, contender: str, pairs: Pairs, *, size: int = 32) -> tuple[float, list[float], float]:
        """Run a contender. Return the seconds of its process, its scores, and its peak memory in MB."""
        folder = Path(self.temporary.name)
        environment = self.environment
        if contender == "other":
            environment = environment | {"PYTHONPATH": str(self.other)}
        if contender in PROGRAM:
            lines = [
                {"query_id": query, "query": query, "doc_id": str(i), "text": d} for i, (query, d) in enumerate(pairs)
            ]
            text = "".join(json.dumps(line) + "\n" for line in lines)
            command = [
                sys.executable,
                "-m",
                "lbr_cli",
                "rerank",
                "-",
                "-m",
                self.folder,
                "--dtype",
                "int8" if contender == "lbr int8" else self.dtype,
                "--quiet",
                "--no-cache",
            ]
            if is_causal(self.folder):
                command += ["--family", "lb"]
        else:
            text = ""
            (folder / "pairs.json").write_text(json.dumps(pairs), encoding="utf-8")
            python = (self.python or "") if contender == "vLLM" else sys.executable
            command = [python, str(HERE / "scoring.py"), self.folder, "--dtype", self.dtype, "--contender", contender]
            if contender in PEERS:
                command = [self.peers or "", str(HERE / "peers.py"), self.folder, "--exports", str(self.exports)]
                command += ["--contender", contender]
            command += ["--file", str(folder / "pairs.json"), "--documents", str(len(pairs)), "--size", str(size)]
        started = time.perf_counter()
        with (
            (folder / "out").open("w+b") as out,
            (folder / "in").open("w+b") as into,
            (folder / "err").open("w+b") as err,
        ):
            into.write(text.encode())
            into.seek(0)
            # not in the checkout, because Python imports modules from the current folder first
            process = subprocess.Popen(command, stdin=into, stdout=out, stderr=err, env=environment, cwd=folder)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            elapsed = time.perf_counter() - started
            out.seek(0)
            lines_out = out.read().decode().splitlines()
            if process.returncode:
                err.seek(0)
                sys.exit(f"{contender} failed:\n{err.read().decode()[-2000:]}")
        if contender in PROGRAM:
            scores = {int(record["doc_id"]): record["score"] for record in map(json.loads, lines_out)}
            return elapsed, [scores[index] for index in range(len(pairs))], usage.ru_maxrss / 1024
        result = next(line for line in reversed(lines_out) if line.startswith(MARK))  # vLLM logs to stdout as well
        return elapsed, json.loads(result.removeprefix(MARK)), usage.ru_maxrss / 1024

    def cost(self, contender: str, pairs: Pairs, **options: Any) -> tuple[float, list[float]]:
        """Return the seconds for each pair after the first quarter, and the scores of all pairs."""
        quarter = len(pairs) // 4
        start, _, _ = self.seconds(contender, pairs[:quarter], **options)
        whole, scores, _ = self.seconds(contender, pairs, **options)
        return (whole - start) / (len(pairs) - quarter), scores


def products_per_second() -> dict[str, float]:
    """Return the multiplications and additions per second, by dtype, in a linear layer of the 0.5B shape."""
    import torch

    speeds = {}
    for dtype in (torch.bfloat16, torch.float32):
        inputs, weight = torch.randn(2048, 896).to(dtype), torch.randn(4864, 896).to(dtype)
        out = torch.empty(2048, 4864, dtype=dtype)
        times = []
        for _ in range(12):
            started = time.perf_counter()
            torch.mm(inputs, weight.T, out=out)
            times.append(time.perf_counter() - started)
        speeds[str(dtype).removeprefix("torch.")] = 2 * 2048 * 896 * 4864 / statistics.median(times[2:])
    return speeds


def int8_products_per_second() -> float:
    """Return the same speed in int8, with quantised activations."""
    import torch

    from lbr_cli.engines.local.int8_kernel import Int8Weight, int8_kernel

    kernel = int8_kernel()
    times = []
    with torch.inference_mode():
        weight, rows = Int8Weight(torch.randn(4864, 896)), kernel.quantize(torch.randn(2048, 896))
        for _ in range(12):
            started = time.perf_counter()
            weight.product(rows, kernel)
            times.append(time.perf_counter() - started)
    return 2 * 2048 * 896 * 4864 / statistics.median(times[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--documents", type=int, default=128)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--collection", type=Path, help="folder with a run, queries and corpus to take the pairs from")
    parser.add_argument("--depth", type=int, help="documents of each query of the collection (default: all)")
    parser.add_argument("--other", type=Path, help="another checkout of lbr, as a contender")
    parser.add_argument("--vllm", help="an interpreter that has vLLM")
    parser.add_argument("--peers", help="an interpreter with the packages of peers.py")
    parser.add_argument("--llama-server", help="path of llama-server, the server of llama.cpp")
    parser.add_argument("--gguf", help="the model for llama-server")
    parser.add_argument(
        "--sizes", type=int, nargs="*", default=(8, 16, 32, 128), help="batch sizes to try with ST and the peers"
    )
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", nargs="*", help="contenders to measure")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, default=32, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        contend(options.contender, options.model, options.dtype, options.file, options.documents, options.size)
        return
    report = growth(options) if options.growth else table(options)
    print(report)
    if options.write:
        write(f"{'growth' if options.growth else 'scoring'}-{Path(options.model).name}", report)


def table(options: argparse.Namespace) -> str:
    """Measure all contenders. Return a table of their speed and of the error of their scores."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    if options.collection:
        pairs = collection_pairs(options.collection, options.documents, options.depth)
    else:
        pairs = [(QUERY, text) for text in documents(tokenizer, usual_lengths(options.documents))]
    decoder = is_causal(options.model)
    llama = (options.llama_server, options.gguf) if options.llama_server else None
    more = [*(["other"] if options.other else []), *(["vLLM"] if options.vllm else []), *([LLAMA] if llama else [])]
    more += PEERS if options.peers else []
    names = options.only or [*(CAUSAL if decoder else ENCODER), *more]
    bench = Bench(options.model, options.dtype, options.vllm, options.other, options.peers, llama)
    sizes = {
        name: min(options.sizes, key=lambda size: bench.cost(name, pairs[:400], size=size)[0])
        for name in names
        if name.startswith("ST") or name in PEERS
    }
    costs: dict[str, list[float]] = {name: [] for name in names}
    shares: dict[str, list[float]] = {name: [] for name in names}
    scores: dict[str, list[float]] = {}
    reference = "one by one" if decoder else "sorted"
    exact = Bench(options.model, "float32").seconds(reference, pairs[: options.documents // 2])[1]
    config = AutoConfig.from_pretrained(options.model)
    body = sum(p.numel() for n, p in AutoModel.from_config(config).named_parameters() if "embed" not in n)
    lengths = [
        len(row)
        for row in (
            prompts(tokenizer, pairs)
            if decoder
            else tokenizer(*map(list, zip(*pairs, strict=True)), truncation=True, max_length=512)["input_ids"]
        )
    ]
    shared = prefix_length(prompts(tokenizer, pairs[:9])) if decoder else 0
    own = [length - shared for length in lengths]
    unique = sum(own) / len(pairs)
    # operations for one pair: with the weights, and in the attention, of which a causal model computes one half
    attended = sum(length * (shared + length / 2 if decoder else length) for length in own) / len(pairs)
    products = 2 * body * unique + 4 * config.hidden_size * config.num_hidden_layers * attended
    for _ in range(options.rounds):
        peak = products_per_second()
        for name in names:
            part = pairs[: len(pairs) // (DIVISORS.get(name, 1) if decoder else 1)]
            cost, scores[name] = bench.cost(name, part, size=sizes.get(name, 32))
            costs[name].append(cost)
            shares[name].append(products / max(peak.values()) / cost)
            print(f"{name:12} {1 / cost:8.2f} pairs/s", file=sys.stderr, flush=True)
    median = {name: statistics.median(costs[name]) for name in names}
    ratios = {name: statistics.median(a / b for a, b in zip(costs[name], costs["lbr"], strict=True)) for name in names}
    rows = [
        f"{options.documents} pairs of {sum(lengths) / len(pairs):.0f} tokens, {unique:.0f} of them a document's own; "
        f"{options.dtype}; {peak['bfloat16'] / 1e9:.0f} GFLOPS in bfloat16, {peak['float32'] / 1e9:.0f} in float32, "
        f"{int8_products_per_second() / 1e9:.0f} in int8, which the limit leaves out; "
        f"medians of {options.rounds}.",
        "",
        "| | pairs/s | tokens/s | share of the limit | lbr is faster by | farthest from float32 |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in names:
        errors = [abs(a - b) for a, b in zip(scores[name], exact, strict=False)]
        error = f"{max(errors):.1e}" if errors else "not measured"
        label = f"{name}, batches of {sizes[name]}" if name in sizes else name
        rows.append(
            f"| {label} | {1 / median[name]:.2f} | {sum(lengths) / len(pairs) / median[name]:,.0f} | "
            f"{statistics.median(shares[name]):.2f} | {ratios[name]:.2f} | {error} |"
        )
    if options.write:
        plot(f"scoring-{Path(options.model).name}", "pairs per second", {name: 1 / median[name] for name in names})
    return "\n".join(rows)


def growth(options: argparse.Namespace) -> str:
    """Measure lbr with more and with longer documents. Return a table of seconds and memory."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    bench = Bench(options.model, options.dtype)
    loading, _, _ = bench.seconds("lbr", [(QUERY, "x")])
    rows = ["| documents | tokens each | seconds | ms a document | µs a token | peak MB |", "| ---: " * 6 + "|"]
    cases = [(10, usual_lengths(10)), (100, usual_lengths(100)), (1000, usual_lengths(1000))]
    cases += [(count, [length] * count) for count, length in ((200, 50), (50, 200), (25, 400), (10, 1000), (5, 4000))]
    points: dict[str, float] = {}
    for count, lengths in cases:
        texts = documents(tokenizer, lengths)
        whole, _, memory = bench.seconds("lbr", [(QUERY, text) for text in texts])
        seconds = whole - loading
        tokens = sum(len(row) for row in tokenizer(texts)["input_ids"])
        points[f"{count} of {tokens // count}"] = 1e6 * seconds / tokens
        each, cost = 1000 * seconds / count, 1e6 * seconds / tokens
        rows.append(f"| {count} | {tokens // count} | {seconds:.1f} | {each:.0f} | {cost:.0f} | {memory:.0f} |")
        print(rows[-1], file=sys.stderr, flush=True)
    if options.write:
        plot(f"growth-{Path(options.model).name}", "µs a document token", points)
    return "\n".join(rows)


def plot(name: str, axis: str, bars: dict[str, float]) -> None:
    """Draw a bar chart as benchmarks/NAME.png."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 0.5 * len(bars) + 1), layout="constrained")
    drawn = axes.barh(list(bars), list(bars.values()), color=["#2a6f97" if bar == "lbr" else "#a9b4c2" for bar in bars])
    axes.bar_label(drawn, fmt="{:.4g}", padding=4)
    axes.invert_yaxis()
    axes.set_xlabel(axis)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(HERE / f"{name}.png", dpi=120)


def write(name: str, report: str) -> None:
    """Write the report between the marks of its name in benchmarks/README.md."""
    path = HERE / "README.md"
    text = path.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, _, rest = text.partition(begin)
    if not rest:
        sys.exit(f"{path} has no marks for {name}: {begin} … {end}")
    path.write_text(
        f"{before}{begin}\n{report}\n\n![{name}]({name}.png)\n{end}{rest.partition(end)[2]}", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
