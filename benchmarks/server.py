"""How busy lbr keeps a server, and how soon its first query appears: python benchmarks/server.py [options]

A server on this machine answers every chat completion in the same way after a fixed delay. A job of many queries with
`--engine openai` sends `--concurrency` requests at a time. Printed are

1. the rate of the server from its first pair to its last, as a share of concurrency / delay, the most that so many
   requests at a time allow. A bare loop of an asynchronous HTTP library (`httpx2`, raw bodies) is measured beside it.
2. how long after the first request of the job its first query appears on stdout, against a job of that query alone.

The server is a process of its own. Each number is the median of `--rounds`, taken in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIGITS = [{"token": str(digit), "logprob": -1.0 * digit} for digit in range(1, 8)]
OTHERS = [{"token": f"word{number}", "logprob": -20.0 - number} for number in range(13)]
ANSWER = {
    "choices": [{"logprobs": {"content": [{"token": "1", "logprob": -1.0, "top_logprobs": [*DIGITS, *OTHERS]}]}}],
    "usage": {"prompt_tokens": 100, "completion_tokens": 1},
}


# ---------------------------------------------------------------- the server


async def serve(delay: float, pipe: Connection) -> None:
    """Answer until the pipe says that it is over; send the port, and then on request the times of the answers."""
    times: list[float] = []
    answer = response(ANSWER)
    models = response({"data": [{"id": "model"}]})

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(
                    (int(line.split(":")[1]) for line in head.lower().splitlines() if "content-length" in line), 0
                )
                await reader.readexactly(length)
                if head.startswith("POST"):
                    times.append(time.monotonic())
                    await asyncio.sleep(delay)
                    times.append(time.monotonic())
                writer.write(answer if head.startswith("POST") else models)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    pipe.send(server.sockets[0].getsockname()[1])
    while True:
        while not pipe.poll():
            await asyncio.sleep(0.05)
        if pipe.recv() == "end":
            return
        pipe.send(times)
        times = []


def response(body: object) -> bytes:
    content = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(content) + content


def run_server(delay: float, pipe: Connection) -> None:
    asyncio.run(serve(delay, pipe))


# ---------------------------------------------------------------- the clients


def job(url: str, folder: Path, queries: int, depth: int, concurrency: int) -> tuple[float, float]:
    """Run lbr; return when its first line appeared, and when it ended."""
    texts = [f"document {number} about something" for number in range(depth)]
    lines = ({"query_id": str(number), "query": f"query {number}", "documents": texts} for number in range(queries))
    (folder / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [sys.executable, "-m", "lbr_cli", "rerank", "in.jsonl", "--engine", "openai", "--base-url", url]
    command += ["--model", "model", "--family", "lb", "--concurrency", str(concurrency), "--no-cache", "--quiet"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LBR_")}
    environment |= {"PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT)), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    first = time.monotonic()
    lines_left = process.stdout.read().count(b"\n")
    if process.wait() or lines_left != queries * depth - 1:
        sys.exit("lbr failed")
    return first, time.monotonic()


def bare_loop(url: str, count: int, concurrency: int) -> None:
    """As many requests with `httpx2` alone."""
    import httpx2 as httpx

    body = json.dumps({"model": "model", "messages": [{"role": "user", "content": "text " * 40}]}).encode()

    async def all_requests() -> None:
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        left = iter(range(count))
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:

            async def worker() -> None:
                for _ in left:
                    got = await client.post(f"{url}/chat/completions", content=body)
                    json.loads(got.content)

            await asyncio.gather(*(worker() for _ in range(concurrency)))

    asyncio.run(all_requests())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--delay", type=float, default=0.05, help="seconds")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    pipe, other = multiprocessing.Pipe()
    server = multiprocessing.Process(target=run_server, args=(options.delay, other), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{pipe.recv()}/v1"
    most = options.concurrency / options.delay
    rates: dict[str, list[float]] = {"lbr": [], "bare loop": []}
    first: dict[str, list[float]] = {"long": [], "alone": []}

    def times() -> list[float]:
        pipe.send("times")
        return pipe.recv()

    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            for name, queries in (("alone", 1), ("long", options.queries)):
                appeared, _ = job(url, Path(folder), queries, options.depth, options.concurrency)
                seen = sorted(times())[2:]  # without the probe
                first[name].append(appeared - seen[0])
            rates["lbr"].append(len(seen) / 2 / (seen[-1] - seen[0]))
            bare_loop(url, options.queries * options.depth, options.concurrency)
            seen = sorted(times())
            rates["bare loop"].append(len(seen) / 2 / (seen[-1] - seen[0]))
    pipe.send("end")
    for name, found in rates.items():
        rate = statistics.median(found)
        print(f"{name}: {rate:.0f} requests/s, {rate / most:.2f} of {most:.0f}")
    alone, long = statistics.median(first["alone"]), statistics.median(first["long"])
    print(
        f"first query: {alone:.3f} s after the first request if alone, {long:.3f} s in a long job ({long / alone:.2f})"
    )


if __name__ == "__main__":
    main()
