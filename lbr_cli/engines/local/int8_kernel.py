"""int8 matrix products on x86 processors, by oneDNN: signed weights, activations with one scale per row.

A product of integers is exact, so a row of the result does not depend on the other rows of its batch. Exact means that
no intermediate sum saturates: processors without VNNI add two products in 16 bits, which has room for 7-bit
activations only. The number of bits is chosen by computing a product of the largest values.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch

from lbr_cli.errors import MissingError

LARGEST_WEIGHT = 127
SMALLEST_SCALE = 1e-30  # of a row of zeros
HINT = "use --dtype float32"


class QuantizedRows(NamedTuple):
    """Rows, equal to (`values` - zero point) * `scales`: uint8, [rows, size], and float32, [rows, 1]."""

    values: torch.Tensor
    scales: torch.Tensor


class Int8Kernel(NamedTuple):
    """Products with activations of `bits` bits, stored as unsigned integers around a zero point."""

    bits: int

    @property
    def zero_point(self) -> int:
        return 1 << (self.bits - 1)

    @property
    def largest(self) -> int:
        """The largest magnitude of an activation."""
        return self.zero_point - 1

    @property
    def description(self) -> str:
        """The name of the precision, which is part of the keys of cached scores."""
        return f"rotated int8 by oneDNN with {self.bits}-bit activations"

    def quantize(self, inputs: torch.Tensor) -> QuantizedRows:
        """Quantise [rows, size], float32, each row by its largest magnitude. Non-finite rows get non-finite scales."""
        scales = torch.maximum(inputs.amax(-1, keepdim=True), inputs.amin(-1, keepdim=True).neg_())
        scales.clamp_(min=SMALLEST_SCALE).div_(self.largest)
        # torch converts to int8 faster than to uint8; adding the zero point is modulo 256
        values = (inputs * scales.reciprocal()).round_().to(torch.int8).view(torch.uint8)
        return QuantizedRows(values.add_(self.zero_point), scales)


class Int8Weight:
    """A weight of a linear layer, with one scale per output, in the layout of the kernel."""

    def __init__(self, weight: torch.Tensor) -> None:
        """`weight` is [outputs, inputs], float32, without a gradient."""
        self._scales = weight.abs().amax(1).clamp(min=SMALLEST_SCALE) / LARGEST_WEIGHT
        self._zeros = torch.zeros(len(weight), dtype=torch.int32)
        quantized = (weight / self._scales[:, None]).round().to(torch.int8)
        self._packed = torch.ops.onednn.qlinear_prepack(quantized, None)

    def product(self, rows: QuantizedRows, kernel: Int8Kernel) -> torch.Tensor:
        """Return the product [rows, outputs], float32, without the scales of the rows."""
        zero_point, float32 = kernel.zero_point, torch.float32
        layer = (self._packed, self._scales, self._zeros, None)
        product: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            rows.values, 1.0, zero_point, *layer, 1.0, 0, float32, "none", [], ""
        )
        return product


@lru_cache(maxsize=1)
def int8_kernel() -> Int8Kernel:
    """Return the kernel of this machine with the most bits. MissingError if there is none."""
    if not torch.cpu.get_capabilities().get("avx2"):
        raise MissingError("--dtype int8: unsupported processor: no AVX2", hint=HINT)
    try:
        kernel = next((kernel for kernel in (Int8Kernel(8), Int8Kernel(7)) if is_exact(kernel)), None)
    except (AttributeError, RuntimeError) as error:  # no such operator, or no implementation of it
        raise MissingError(f"--dtype int8: unsupported by torch {torch.__version__}", hint=HINT) from error
    if kernel is None:
        raise MissingError("--dtype int8: products of int8 are not exact on this processor", hint=HINT)
    return kernel


@torch.inference_mode()
def is_exact(kernel: Int8Kernel) -> bool:
    """Return whether products of the largest activations and weights of both signs are exact."""
    size = 256
    signs = torch.ones(4, size)
    signs[1], signs[2, ::2], signs[3, : size // 2] = -1, -1, -1
    weight = Int8Weight(signs.repeat(8, 1))
    for count in (1, 4, 64):  # the implementation depends on the number of rows
        inputs = signs.repeat(16, 1)[:count]
        rows = kernel.quantize(inputs)
        if not torch.allclose(weight.product(rows, kernel) * rows.scales, inputs @ signs.repeat(8, 1).T, rtol=1e-5):
            return False
    return True
