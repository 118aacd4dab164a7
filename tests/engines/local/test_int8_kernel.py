"""int8 products: equal to those of integers in NumPy, for the largest values as well."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lbr_cli.engines.local.int8_kernel import Int8Kernel, Int8Weight, int8_kernel, is_exact
from lbr_cli.errors import MissingError

pytestmark = pytest.mark.skipif(not torch.cpu.get_capabilities().get("avx2"), reason="int8 needs AVX2")


@pytest.fixture(autouse=True)
def inference() -> Any:
    with torch.inference_mode():
        yield


@given(rows=st.integers(1, 40), inputs=st.integers(1, 130), outputs=st.integers(1, 40), seed=st.integers(0, 2**31))
def test_products_equal_integer_arithmetic(rows: int, inputs: int, outputs: int, seed: int) -> None:
    kernel = int8_kernel()
    source = np.random.default_rng(seed)
    # each row and each output has a largest value, so that all scales are 1
    weight = with_extremes(source.integers(-127, 128, (outputs, inputs)), 127)
    values = with_extremes(source.integers(-kernel.largest, kernel.largest + 1, (rows, inputs)), kernel.largest)
    product = product_of(kernel, weight, values)
    assert (product == values @ weight.T).all()


@pytest.mark.parametrize("rows", [1, 3, 16, 65])
@pytest.mark.parametrize("inputs", [1, 7, 384, 4864])
@pytest.mark.parametrize(("first", "second"), [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_the_largest_values_do_not_saturate(rows: int, inputs: int, first: int, second: int) -> None:
    kernel = int8_kernel()
    values = np.full((rows, inputs), first * kernel.largest)
    weight = np.full((24, inputs), second * 127)
    assert (product_of(kernel, weight, values) == np.float32(values @ weight.T)).all()


def with_extremes(values: Any, largest: int) -> Any:
    values[:, 0] = largest
    return values


def product_of(kernel: Int8Kernel, weight: Any, values: Any) -> Any:
    rows = kernel.quantize(torch.from_numpy(values).float())
    product = Int8Weight(torch.from_numpy(weight).float()).product(rows, kernel)
    return (product * rows.scales).numpy()


def test_a_row_does_not_depend_on_its_batch() -> None:
    kernel = int8_kernel()
    torch.manual_seed(0)
    inputs, weight = torch.randn(150, 96), Int8Weight(torch.randn(40, 96))

    def product(some: torch.Tensor) -> torch.Tensor:
        rows = kernel.quantize(some)
        return weight.product(rows, kernel) * rows.scales

    together = product(inputs)
    for size in (1, 2, 17, 64, 149):
        assert torch.equal(torch.cat([product(part) for part in inputs.split(size)]), together)


@given(scale=st.sampled_from([1e-20, 1e-3, 1.0, 1e20]), rows=st.integers(1, 300), inputs=st.integers(1, 1000))
def test_rounding_errors_are_at_most_half_a_step(scale: float, rows: int, inputs: int) -> None:
    kernel = int8_kernel()
    values = torch.randn(rows, inputs) * scale
    quantized = kernel.quantize(values)
    restored = (quantized.values.float() - kernel.zero_point) * quantized.scales
    assert ((restored - values).abs() <= 0.5001 * quantized.scales).all()
    assert torch.allclose(quantized.scales * kernel.largest, values.abs().amax(1, keepdim=True))


def test_zeros_and_nonfinite_rows_are_kept() -> None:
    kernel = int8_kernel()
    values = torch.ones(4, 8)
    values[0], values[1, 3], values[2, 3] = 0, torch.inf, torch.nan
    rows = kernel.quantize(values)
    product = Int8Weight(torch.eye(8)).product(rows, kernel) * rows.scales
    assert (product[0] == 0).all()
    assert not product[1].isfinite().any()
    assert not product[2].isfinite().any()
    assert torch.allclose(product[3], torch.ones(8))


def test_a_processor_without_a_kernel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    int8_kernel.cache_clear()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "aarch64"})
    with pytest.raises(MissingError, match="--dtype int8: unsupported processor: no AVX2"):
        int8_kernel()


@pytest.mark.slow
@pytest.mark.parametrize("instructions", ["AVX2", "AVX512_CORE"])
def test_without_vnni_activations_have_7_bits(instructions: str) -> None:
    code = (
        "from lbr_cli.engines.local import int8_kernel as k; print(k.int8_kernel().bits, k.is_exact(k.Int8Kernel(8)))"
    )
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": instructions}
    printed = subprocess.run(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    assert printed == "7 False\n"


def test_seven_bits_are_exact_on_every_processor() -> None:
    assert is_exact(Int8Kernel(7))
