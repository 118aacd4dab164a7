"""The rotation of the inputs of int8 layers: orthogonal, the same for a row in any batch, useful against outliers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import hadamard

from lbr_cli.engines.local.int8_kernel import Int8Kernel
from lbr_cli.engines.local.rotation import rotate

SIZES = st.one_of(st.integers(1, 200), st.sampled_from([384, 576, 896, 1536, 4864]))
RUNS = [(384, 128), (576, 64), (896, 128), (1024, 128), (96, 32), (64, 32), (130, 2), (2, 1), (7, 1)]


@pytest.mark.parametrize(("size", "run"), RUNS)
def test_runs_are_multiplied_by_the_hadamard_matrix(size: int, run: int) -> None:
    values = torch.randn(5, size, generator=torch.Generator().manual_seed(size))
    matrix = torch.from_numpy(hadamard(run)).float() / run**0.5
    expected = torch.block_diag(*[matrix] * (size // run))
    assert torch.allclose(rotate(values), values @ expected, atol=1e-5)


@given(rows=st.integers(1, 20), size=SIZES, seed=st.integers(0, 2**31))
def test_the_product_with_rotated_weights_is_the_same(rows: int, size: int, seed: int) -> None:
    source = torch.Generator().manual_seed(seed)
    values, weight = torch.randn(rows, size, generator=source), torch.randn(9, size, generator=source)
    product = rotate(values) @ rotate(weight).T
    assert torch.allclose(product, values @ weight.T, atol=1e-5 * size**0.5)
    assert torch.allclose(rotate(rotate(values)), values, atol=1e-5)


@given(rows=st.integers(2, 300), size=SIZES, seed=st.integers(0, 2**31))
def test_a_row_does_not_depend_on_its_batch(rows: int, size: int, seed: int) -> None:
    values = torch.randn(rows, size, generator=torch.Generator().manual_seed(seed))
    together = rotate(values)
    assert torch.equal(rotate(values[:1]), together[:1])
    assert torch.equal(rotate(values[rows // 2 :]), together[rows // 2 :])


def test_channels_beside_an_outlier_keep_their_values() -> None:
    values = torch.randn(50, 576, generator=torch.Generator().manual_seed(0))
    values[:, 3] = 100
    plain, rotated = (quantised(rows) - rows for rows in (values, rotate(values)))
    assert rotated.norm() < plain.norm() / 4


def quantised(values: torch.Tensor) -> torch.Tensor:
    kernel = Int8Kernel(8)
    rows = kernel.quantize(values)
    return (rows.values.float() - kernel.zero_point) * rows.scales
