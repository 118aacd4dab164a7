"""A Ray cluster is joined, or made of this machine, and has to have room; what Ray does to signals is undone."""

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


def join(wanted: Workers) -> None:
    """Join the cluster at an address, or make one of this machine that lasts as long as this process."""
    import ray

    if wanted.address:
        _check_reachable(wanted.address)
    try:
        with _signals_held():
            if not ray.is_initialized():
                address, dashboard = wanted.address or "local", None if wanted.address else False
                ray.init(address=address, include_dashboard=dashboard, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, OSError, ValueError) as error:
        place = f"--ray-address {wanted.address}" if wanted.address else "a cluster of this machine"
        raise RunError(f"{place}: {first_line(error)}") from error
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    room = sum(room_for(node["Resources"], wanted) for node in nodes if node["Alive"])
    if room < wanted.count:
        each = f"{wanted.cpus} CPUs and {wanted.gpus:g} GPUs" if wanted.gpus else f"{wanted.cpus} CPUs"
        message = f"the cluster has room for {room} workers of {each}, and {wanted.count} are wanted"
        raise MissingError(message, hint="fewer --workers, or less with --worker-cpus and --worker-gpus")


@contextmanager
def _signals_held() -> Iterator[None]:
    """Signals wait until this is over: ray would end the program in its own way, with the exit code of success."""
    ours = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ours = {number: handler for number, handler in ours.items() if handler != signal.SIG_IGN}
    heard: list[int] = []
    real = signal.signal

    def hold(number: int, frame: FrameType | None) -> None:
        heard.append(number)

    def instead(number: int, handler: Any) -> Any:
        return real(number, hold if number in ours else handler)

    for number in ours:
        real(number, hold)
    vars(signal)["signal"] = instead
    try:
        yield
    finally:
        vars(signal)["signal"] = real
        for number, handler in ours.items():
            real(number, handler)
        if heard:
            signal.raise_signal(heard[0])


def room_for(resources: Mapping[str, float], wanted: Workers) -> int:
    """How many workers a node has room for, if nothing else runs there."""
    room = resources.get("CPU", 0) // wanted.cpus
    return int(min(room, resources.get("GPU", 0) // wanted.gpus) if wanted.gpus else room)


def _check_reachable(address: str) -> None:
    """RunError where nothing listens at an address: ray itself goes on trying for minutes."""
    place = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        if place.hostname and place.port:
            socket.create_connection((place.hostname, place.port), timeout=PROBE_SECONDS).close()
    except (OSError, ValueError) as error:
        raise RunError(f"--ray-address {address}: cannot be reached: {error}") from error
