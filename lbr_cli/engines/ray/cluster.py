"""Connect to a Ray cluster, or start one here, and check that it has room. The signal handlers of lbr are kept."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from lbr_cli.engines import Workers
from lbr_cli.errors import MissingError, RunError, first_line

PROBE_SECONDS = 5.0


def connect(pool: Workers) -> None:
    """Connect to the cluster at an address, or start one on this machine that ends with this process.

    Raises RunError if it cannot be reached, MissingError if it has no room for the workers.
    """
    import ray

    if pool.address:
        _check_reachable(pool.address)
    address, dashboard = pool.address or "local", None if pool.address else False
    try:
        with _signals_held():
            if not ray.is_initialized():
                ray.init(address=address, include_dashboard=dashboard, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, OSError, ValueError) as error:
        cluster = f"--ray-address {pool.address}" if pool.address else "a cluster of this machine"
        raise RunError(f"{cluster}: {first_line(error)}") from error
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    room = sum(room_for(node["Resources"], pool) for node in nodes if node["Alive"])
    if room < pool.count:
        size = f"{pool.cpus} CPUs" + (f" and {pool.gpus:g} GPUs" if pool.gpus else "")
        message = f"the cluster has room for {room} workers of {size}, and --workers is {pool.count}"
        raise MissingError(message, hint="reduce --workers, --worker-cpus or --worker-gpus")


@contextmanager
def _signals_held() -> Iterator[None]:
    """Delay signals in this block: Ray's handlers would end the program with the exit code of success."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: handler for number, handler in handlers.items() if handler != signal.SIG_IGN}
    received: list[int] = []
    set_handler = signal.signal

    def hold(number: int, frame: FrameType | None) -> None:
        received.append(number)

    for number in handlers:
        set_handler(number, hold)
    # replaced too, because Ray sets its own handlers in this block
    vars(signal)["signal"] = lambda number, handler: set_handler(number, hold if number in handlers else handler)
    try:
        yield
    finally:
        vars(signal)["signal"] = set_handler
        for number, handler in handlers.items():
            set_handler(number, handler)
        if received:
            signal.raise_signal(received[0])


def room_for(resources: Mapping[str, float], pool: Workers) -> int:
    """Return how many workers fit on a node on which nothing else runs."""
    room = resources.get("CPU", 0) // pool.cpus
    return int(min(room, resources.get("GPU", 0) // pool.gpus) if pool.gpus else room)


def _check_reachable(address: str) -> None:
    """Raise RunError if nothing listens at an address: Ray itself would wait for minutes."""
    url = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        if url.hostname and url.port:
            socket.create_connection((url.hostname, url.port), timeout=PROBE_SECONDS).close()
    except (OSError, ValueError) as error:
        raise RunError(f"--ray-address {address}: cannot be reached: {error}") from error
