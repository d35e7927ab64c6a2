"""Numbers as the bytes that buffers hold, and constants that a builder declares."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import forerun
from forerun.ir.contents import bytes_of_integers, bytes_of_numbers, integers_of
from forerun.ir.text import parse_graph, print_graph
from forerun.ir.types import BufferRole, DType
from forerun.runtime.dtypes import numpy_dtype
from forerun.support.diagnostics import InvalidInput

INTEGERS = [dtype for dtype in DType if not dtype.is_float]


@given(st.sampled_from(INTEGERS), st.data())
def test_integers(dtype: DType, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(*dtype.range), max_size=5))
    contents = bytes_of_numbers(dtype, values)
    assert contents == np.array(values, numpy_dtype(dtype)).tobytes() == bytes_of_integers(dtype, values)
    assert integers_of(dtype, contents) == tuple(values)


@given(st.sampled_from([DType.F64, DType.F32, DType.BF16]), st.lists(st.floats(width=32), max_size=5))
def test_floats(dtype: DType, values: list[float]) -> None:
    with np.errstate(all="ignore"):
        expected = np.array(values, np.float64 if dtype is DType.F64 else np.float32).astype(numpy_dtype(dtype))
    found = np.frombuffer(bytes_of_numbers(dtype, values), numpy_dtype(dtype))
    np.testing.assert_array_equal(found.astype(np.float64), expected.astype(np.float64))
    assert integers_of(dtype, found.tobytes()) == tuple(found.view(f"u{dtype.itemsize}").tolist())


@pytest.mark.parametrize(
    ("dtype", "values", "said"),
    [
        ("i8", [128], "128 is not a value of i8"),
        ("u8", [-1], "-1 is not a value of u8"),
        ("i32", [1.5], "1.5 is not a value of i32"),
        ("f32", [10**400], "is not a value of f32"),
        ("f32", ["1"], "'1' is not a number"),
        ("f32", "12", "'12' is not a list of numbers"),
        ("f32", None, "None is not a number"),
        ("i32", [[1, 2]], r"\[1, 2\] is not a number"),
        ("i32", np.zeros(2, np.int64), "the array has elements of i64, not i32"),
        ("i32", np.zeros(2, np.complex64), "is not an element type"),
    ],
)
def test_what_is_no_constant(dtype: str, values: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=f"buffer 'k': .*{said}"):
        forerun.GraphBuilder("g").constant("k", dtype, values)


@pytest.mark.parametrize(
    ("dtype", "values", "shape", "shown"),
    [
        ("i32", 5, (1,), "holds [5] on host"),
        ("u64", [2**64 - 1, 0], (2,), "holds [18446744073709551615, 0] on host"),
        ("f32", [1, -0.0, math.nan], (3,), "holds [0x3f800000, 0x80000000, 0x7fc00000] on host"),
        ("bf16", np.ones((2, 1), ml_dtypes.bfloat16), (2, 1), "holds [0x3f80, 0x3f80] on host"),
        ("i16", np.arange(4, dtype=np.int16).reshape(2, 2).T, (2, 2), "holds [0, 2, 1, 3] on host"),
    ],
)
def test_constants(dtype: str, values: Any, shape: tuple[int, ...], shown: str) -> None:
    builder = forerun.GraphBuilder("g")
    builder.constant("k", dtype, values)
    graph = builder.build()
    buffer = graph.buffers["k"]
    assert (buffer.shape, buffer.role, buffer.needs_value) == (shape, BufferRole.WEIGHT, False)
    assert shown in print_graph(graph)
    assert parse_graph(print_graph(graph)) == graph


def test_nobody_passes_a_value() -> None:
    builder = forerun.GraphBuilder("g")
    k, y = builder.constant("k", "f32", [1, 2]), builder.output("y", "f32", 2)
    builder.copy(k, y)
    graph = builder.build()
    with forerun.compile(graph) as program:
        assert program()["y"].tolist() == program.read("k").tolist() == [1, 2]
        with pytest.raises(InvalidInput, match="'%k' is weight, not state"):
            program.write("k", [3, 4])
    with pytest.raises(InvalidInput, match="weight '%k' is given, but the graph says what it holds"):
        forerun.compile(graph, weights={"k": np.zeros(2, np.float32)})
