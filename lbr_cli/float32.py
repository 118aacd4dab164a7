"""Scores as numbers: parsing, float32, and the shortest text that parses to the same float32.

trec_eval stores scores as float32, so a score is a float32 value in a Python float.
"""

from __future__ import annotations

import functools
import math
import re
import struct
from typing import Any

DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
LARGEST = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]


def parse_number(text: str) -> float | None:
    """Parse a finite decimal number such as `1e-05`; return None for anything else: `1_0`, `inf`, `0x10`."""
    if not DECIMAL.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def as_float(value: Any) -> float:
    """Return a number as a float, infinity for an integer or a fraction that is too large."""
    try:
        return float(value)
    except OverflowError:
        return -math.inf if value < 0 else math.inf


def float32(value: float) -> float:
    """Return the nearest float32. Numbers beyond the largest float32 are clamped to it."""
    if abs(value) > LARGEST:
        return math.copysign(LARGEST, value)
    result: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return result


def step_below(value: float) -> float:
    """Return the next smaller float32."""
    if value == 0:
        return -math.ldexp(1.0, -149)
    bits = struct.unpack("<i", struct.pack("<f", value))[0]
    result: float = struct.unpack("<f", struct.pack("<i", bits + 1 if value < 0 else bits - 1))[0]
    return result


def round_trip_number(value: float) -> float:
    """Return a score for JSON: the number with the fewest digits that is the same float32."""
    return float(round_trip_text(float32(value)))


@functools.lru_cache(1 << 12)
def round_trip_text(value: float) -> str:
    """Return the shortest decimal that parses to this float32. Nine digits always do (IEEE 754)."""
    for digits in (6, 7, 8):
        text = f"{value:.{digits}g}"
        if float32(float(text)) == value:
            return text
    return f"{value:.9g}"
