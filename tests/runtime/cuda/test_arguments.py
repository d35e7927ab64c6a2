"""Constants reach the driver with their bits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        (DType.I8, -128, 0x80),
        (DType.U64, (1 << 64) - 1, (1 << 64) - 1),
        (DType.F32, 0.1, 0x3DCCCCCD),
        (DType.F32, 16777217, 0x4B800000),
        (DType.F32, math.inf, 0x7F800000),
        (DType.F16, 1.5, 0x3E00),
        (DType.BF16, -2.0, 0xC000),
    ],
)
def test_the_bits_of_the_other_types(dtype: DType, value: float, expected: int) -> None:
    assert bits(dtype, value) == expected


@given(st.floats(width=64) | st.integers(-(1 << 70), 1 << 70))
def test_floating_point_numbers_are_rounded_as_numpy_rounds(value: float) -> None:
    with np.errstate(over="ignore"):
        found, wanted = bits(DType.F32, value), np.array(value, np.float32)
    assert math.isnan(value) or found == int(wanted.view(np.uint32))
