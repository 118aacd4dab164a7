"""Scores as text: what is a number, and how one is printed so that it reads back as the same float32.

trec_eval keeps scores as float32, so a score here is a float32 value held in a Python float.
"""

from __future__ import annotations

import functools
import math
import re
import struct

DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
LARGEST = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]


def parse_number(text: str) -> float | None:
    """The finite decimal number that `text` is, or None: `1e-05` is one; `1_0`, `inf` and `0x10` are not."""
    if not DECIMAL.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def float32(value: float) -> float:
    """The nearest float32; what is beyond them becomes the largest."""
    if abs(value) > LARGEST:
        return math.copysign(LARGEST, value)
    result: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return result


def step_below(value: float) -> float:
    """The float32 just below a float32."""
    if value == 0:
        return -math.ldexp(1.0, -149)
    bits = struct.unpack("<i", struct.pack("<f", value))[0]
    result: float = struct.unpack("<f", struct.pack("<i", bits + 1 if value < 0 else bits - 1))[0]
    return result


def as_written(value: float) -> float:
    """The number that stands in JSONL for a score: few digits, and the same float32."""
    return float(shortest(float32(value)))


@functools.lru_cache(1 << 12)
def shortest(value: float) -> str:
    """The shortest decimal that reads back as this float32. Nine digits always do (IEEE 754)."""
    for digits in (6, 7, 8):
        text = f"{value:.{digits}g}"
        if float32(float(text)) == value:
            return text
    return f"{value:.9g}"
