"""Scores as decimal text and as float32."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbr_cli.float32 import float32, parse_number, round_trip_text, step_below

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(FLOATS)
def test_a_printed_score_reads_back_as_the_same_float32(value: float) -> None:
    assert np.float32(round_trip_text(value)) == np.float32(value)


@given(FLOATS)
def test_a_printed_score_is_the_shortest_decimal(value: float) -> None:
    digits = len(round_trip_text(value).lstrip("-").split("e")[0].replace(".", "").strip("0"))
    assert digits <= max(6, len(np.format_float_scientific(np.float32(value), unique=True).split("e")[0].strip("-")))


@given(FLOATS.filter(lambda value: value > -3.4e38))
def test_a_step_below_is_the_next_float32(value: float) -> None:
    assert step_below(value) == float(np.nextafter(np.float32(value), np.float32(-np.inf)))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_float32_rounds_as_numpy_does(value: float) -> None:
    with np.errstate(over="ignore"):
        expected = float(np.float32(value))
    assert float32(value) == (expected if math.isfinite(expected) else math.copysign(3.4028234663852886e38, value))


@pytest.mark.parametrize("text", ["1e-05", "0", "-3", "+2.5", ".5", "5.", "1E+3", "00012"])
def test_decimal_numbers_are_parsed(text: str) -> None:
    assert parse_number(text) == float(text)


@pytest.mark.parametrize("text", ["", "1_0", "inf", "nan", "0x10", "1e999", "\uff11", "1,5", "1e", "--1", " 1", "1\r"])
def test_other_numbers_are_refused(text: str) -> None:
    assert parse_number(text) is None
