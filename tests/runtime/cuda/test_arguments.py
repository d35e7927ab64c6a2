"""Constants reach the driver with their bits."""

from __future__ import annotations

import math

import pytest

from forerun.ir.types import DType
from forerun.runtime.cuda.emit.arguments import bits


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        (DType.F32, 0.0, 0),
        (DType.F32, -0.0, 1 << 31),
        (DType.F32, math.nan, 0x7FC00000),
        (DType.F64, -0.0, 1 << 63),
        (DType.F64, 1, 0x3FF0 << 48),
        (DType.I32, 1, 1),
        (DType.I32, -1, 0xFFFFFFFF),
    ],
)
def test_the_bits_of_a_constant(dtype: DType, value: float, expected: int) -> None:
    bits(dtype, abs(value))  # an equal number of other bits, or of another type, was there before
    bits(dtype, float(value))
    assert bits(dtype, value) == expected
