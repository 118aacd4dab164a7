"""Utilisation of a server, and time to the first query: python benchmarks/server.py [options]

A server on this machine returns the same chat completion for every request after a fixed delay. A job of many queries
with `--engine openai` keeps `--concurrency` requests in flight. The script prints

1. the rate of requests from the first pair to the last, as a share of the maximum, concurrency / delay; for comparison,
   the rates of a bare loop with urllib3, the HTTP library of lbr, and of one with plain sockets
2. the time from the first request of the job until its first query appears on stdout, in a long job and in a job of
   only this query.

The server is a separate process. Each number is the median of `--rounds`, in which the jobs run in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import urllib3

ROOT = Path(__file__).resolve().parents[1]
DIGITS = [{"token": str(digit), "logprob": -1.0 * digit} for digit in range(1, 8)]
OTHERS = [{"token": f"word{number}", "logprob": -20.0 - number} for number in range(13)]
ANSWER = {
    "choices": [{"logprobs": {"content": [{"token": "1", "logprob": -1.0, "top_logprobs": [*DIGITS, *OTHERS]}]}}],
    "usage": {"prompt_tokens": 100, "completion_tokens": 1},
}


# ---------------------------------------------------------------- the server


async def serve(delay: float, pipe: Connection) -> None:
    """Serve until the pipe receives "end". Send the port; for each "times", send the times of requests and answers."""
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
    """Run lbr. Return the times at which its first line appeared and at which it ended."""
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


BODY = json.dumps({"model": "model", "messages": [{"role": "user", "content": "text " * 40}]}).encode()


def in_threads(count: int, concurrency: int, connect: Callable[[], Callable[[], bytes]]) -> None:
    """Send requests in `concurrency` threads, each with a function of its own that sends one; parse the responses."""
    remaining, lock = iter(range(count)), threading.Lock()

    def work() -> None:
        send = connect()
        while True:
            with lock:
                if next(remaining, None) is None:
                    return
            json.loads(send())

    threads = [threading.Thread(target=work) for _ in range(concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def urllib3_loop(port: int, count: int, concurrency: int) -> None:
    """Send `count` requests with urllib3, which lbr uses, and nothing else."""
    pool = urllib3.PoolManager(maxsize=concurrency).connection_from_url(f"http://127.0.0.1:{port}")
    headers = {"content-type": "application/json"}
    in_threads(
        count,
        concurrency,
        lambda: lambda: pool.urlopen("POST", "/v1/chat/completions", BODY, headers, retries=False).data,
    )


def socket_loop(port: int, count: int, concurrency: int) -> None:
    """Send `count` requests without an HTTP library: the limit of this machine and the server."""
    request = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
    size = len(response(ANSWER))

    def connect() -> Callable[[], bytes]:
        connection = socket.create_connection(("127.0.0.1", port))

        def send() -> bytes:
            connection.sendall(request)
            data = b""
            while len(data) < size:
                data += connection.recv(65536)
            return data[data.index(b"\r\n\r\n") :]

        return send

    in_threads(count, concurrency, connect)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--delay", type=float, default=0.05, help="seconds")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    pipe, server_pipe = multiprocessing.Pipe()
    server = multiprocessing.Process(target=run_server, args=(options.delay, server_pipe), daemon=True)
    server.start()
    port = pipe.recv()
    url = f"http://127.0.0.1:{port}/v1"
    maximum = options.concurrency / options.delay
    loops = {"urllib3 alone": urllib3_loop, "sockets alone": socket_loop}
    rates: dict[str, list[float]] = {name: [] for name in ("lbr", *loops)}
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
            for name, loop in loops.items():
                loop(port, options.queries * options.depth, options.concurrency)
                seen = sorted(times())
                rates[name].append(len(seen) / 2 / (seen[-1] - seen[0]))
    pipe.send("end")
    for name, values in rates.items():
        rate = statistics.median(values)
        print(f"{name}: {rate:.0f} requests/s, {rate / maximum:.2f} of {maximum:.0f}")
    alone, long = statistics.median(first["alone"]), statistics.median(first["long"])
    print(
        f"first query: {alone:.3f} s after the first request if alone, {long:.3f} s in a long job ({long / alone:.2f})"
    )


if __name__ == "__main__":
    main()
