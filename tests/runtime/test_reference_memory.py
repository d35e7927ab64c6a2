"""Memory: what is copied and what is not, what is poisoned, and what callers may give."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from forerun.ir.affine import affine
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.kernel import BufferParameter, Kernel, Role, ScalarParameter
from forerun.ir.nodes import ScalarLoad
from forerun.ir.region import region
from forerun.ir.types import BufferRole, DType
from forerun.kernels.builtin import KERNELS
from forerun.runtime.dtypes import numpy_dtype
from forerun.runtime.reference import ReferenceTarget
from forerun.runtime.reference.memory import ALIGNMENT, Memory, address
from forerun.support.diagnostics import InvalidInput
from tests.runtime.support import F32, I32, phase, serial, vector_kernel


def weighted() -> Graph:
    make = GraphBuilder("weighted")
    make.weight("matrix", F32, (4,))
    make.input("token", F32, (4,))
    make.input("position", I32, (2,), bounds=(0, 7))
    make.output("y", F32, (4,))
    make.launch(KERNELS["add_f32"], a="matrix", b="token", y="y")
    return make.build()


X = np.arange(4, dtype=np.float32)
INPUTS: dict[str, Any] = {"token": X, "position": [1, 2]}


def test_fitting_weights_are_used_in_place_and_stay_writable_for_the_caller() -> None:
    given = X.copy()
    memory = Memory(weighted(), {"matrix": given})
    assert np.shares_memory(memory.buffers["matrix"].array, given)
    assert not memory.buffers["matrix"].array.flags.writeable
    given[0] = 5  # the caller's own view is not locked


def test_weights_that_cannot_be_used_in_place_are_copied() -> None:
    strided = np.zeros((4, 2), np.float32)[:, 0]
    strided[...] = X
    memory = Memory(weighted(), {"matrix": strided})
    found = memory.buffers["matrix"]
    assert not np.shares_memory(found.readable, strided)
    np.testing.assert_array_equal(found.readable, X)


def test_weights_of_a_shared_allocation_are_copied_side_by_side() -> None:
    make = GraphBuilder("g")
    make.allocation("arena", 48)
    for i, name in enumerate(("a", "b")):
        make.buffer(name, F32, (4,), BufferRole.WEIGHT, allocation="arena", offset=32 * i)
    make.output("y", F32, (4,))
    make.launch(KERNELS["add_f32"], a="a", b="b", y="y")
    assert serial(make.build(), {}, {"a": X, "b": 10 * X})["y"].tolist() == [0, 11, 22, 33]


def test_each_weight_is_looked_up_once() -> None:
    class Lazy(Mapping[str, np.ndarray]):
        def __init__(self) -> None:
            self.asked: list[str] = []

        def __getitem__(self, name: str) -> np.ndarray:
            self.asked.append(name)
            return X

        def __iter__(self) -> Iterator[str]:
            return iter(["matrix"])

        def __len__(self) -> int:
            return 1

        def __contains__(self, name: object) -> bool:
            return name == "matrix"

    lazy = Lazy()
    assert serial(weighted(), INPUTS, lazy)["y"].tolist() == [0, 2, 4, 6]
    assert lazy.asked == ["matrix"]


def test_what_nobody_wrote_is_poison_in_every_replay() -> None:
    """Each replay writes another half of the output; the other half must not be what the last replay left there."""
    make = GraphBuilder("g")
    make.input("row", I32, (1,), bounds=(0, 1))
    make.input("x", F32, (2,))
    make.output("y", F32, (2, 2))
    write_row = phase("write", "keep", uses=("kept",), writes=[("y", region(("row", affine("row") + 1)))])
    load = phase("load", "as_row", reads=["x"], defines=("kept",))
    parameters = (BufferParameter("x", F32), BufferParameter("y", F32), ScalarParameter("row", I32))
    make.launch(Kernel("k", parameters, (Role("all", (load, write_row)),)), x="x", y="y", row=ScalarLoad("row"))
    program = ReferenceTarget().load(make.build(), {})
    for row in (0, 1, 0):
        found = program.run({"row": row, "x": [1, 2]})["y"]
        assert found[row].tolist() == [1, 2]
        assert np.isnan(found[1 - row]).all()


def test_allocations_are_aligned_and_gaps_are_poisoned() -> None:
    make = GraphBuilder("g")
    make.allocation("arena", 16)
    make.buffer("x", I32, (1,), BufferRole.INPUT, allocation="arena", offset=4)
    make.temp("t", DType.U8, (3,))
    make.temp("u", I32, (1,))
    make.output("y", I32, (1,))
    make.fill("t")
    make.copy("x", "u")
    make.copy("u", "y")
    memory = Memory(make.build(), {})
    assert all(address(memory.bytes_of(name)) % ALIGNMENT == 0 for name in ("arena", "t", "u", "y"))
    assert memory.bytes_of("arena").tolist() == [255] * 4 + [0] * 4 + [255] * 8


def test_state_that_is_never_written_takes_no_memory() -> None:
    make = GraphBuilder("g")
    make.state("cache", DType.U8, (2 << 30,))
    make.output("y", I32, (1,))
    make.fill("y", 3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    program = ReferenceTarget().load(make.build(), {})
    assert program.run({})["y"].tolist() == [3]
    program.reset()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 1 << 18, "kilobytes on Linux, bytes on macOS: less than the state in either"


def test_outputs_are_the_callers_own() -> None:
    make = GraphBuilder("g")
    make.input("x", I32, (2,))
    make.output("y", I32, (2,))
    make.copy("x", "y")
    program = ReferenceTarget().load(make.build(), {})
    first = program.run({"x": [1, 2]})["y"]
    program.run({"x": [3, 4]})
    assert first.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({}, "no value for weight %matrix"),
        ({"matrx": X}, "the graph has no weight '%matrx'\nhint: did you mean '%matrix'?"),
        ({"matrix": X, "extra": X}, "the graph has no weight '%extra'"),
        ({"matrix": X.astype(np.float16)}, "weight '%matrix': expected f32[4], given f16[4]"),
        ({"matrix": X.astype(ml_dtypes.bfloat16)}, "weight '%matrix': expected f32[4], given bf16[4]"),
        ({"matrix": X[:3]}, "weight '%matrix': expected f32[4], given f32[3]"),
        ({"matrix": X.astype(">f4")}, "weight '%matrix': expected f32[4], given >f4[4]"),
        ({"matrix": [[1], [2, 3]]}, "weight '%matrix' cannot be made an array"),
    ],
)
def test_wrong_weights(weights: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ReferenceTarget().load(weighted(), weights)
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"token": X}, "no value for input %position"),
        ({"tokn": X, "position": [1, 2]}, "the graph has no input '%tokn'\nhint: did you mean '%token'?"),
        ({**INPUTS, "y": X}, "the graph has no input '%y'"),
        ({**INPUTS, "token": X[:2]}, "input '%token': expected f32[4], given f32[2]"),
        ({**INPUTS, "token": 1.0}, "input '%token': expected f32[4], given f64[]"),
        ({**INPUTS, "token": X.astype(np.float64) + 0.1}, "input '%token': element 0 is 0.1, which does not fit"),
        ({**INPUTS, "token": X.astype(np.complex64)}, "input '%token': expected f32[4], given complex64[4]"),
        ({**INPUTS, "token": ["a", "b", "c", "d"]}, "input '%token': expected f32[4], given <U1[4]"),
        ({**INPUTS, "position": [1.5, 2]}, "input '%position': expected i32[2], given f64[2]"),
        ({**INPUTS, "position": [0, 1 << 40]}, "input '%position': element 1 is 1099511627776, which does not fit i32"),
        ({**INPUTS, "position": [0, 1 << 80]}, "input '%position': expected i32[2], given object[2]"),
        ({**INPUTS, "position": [1, 8]}, "input '%position': element 1 is 8, out of its bounds 0 to 7"),
        ({**INPUTS, "position": [-1, 2]}, "input '%position': element 0 is -1, out of its bounds 0 to 7"),
    ],
)
def test_wrong_inputs(inputs: dict[str, Any], expected: str) -> None:
    program = ReferenceTarget().load(weighted(), {"matrix": X})
    with pytest.raises(InvalidInput) as caught:
        program.run(inputs)
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize(
    ("dtype", "shape", "value"),
    [
        (DType.I64, (2,), np.array([1, 2], np.int32)),
        (DType.F64, (2,), np.array([1, 2], np.float32)),
        (DType.F32, (2,), [1, 2.5]),
        (DType.BF16, (2,), [1, 2.5]),
        (DType.F16, (1,), True),
        (DType.I8, (1,), 127),
        (DType.U64, (1,), 1 << 60),
        (DType.I32, (1, 1), 5),
        (DType.I32, (2, 1), [[5], [6]]),
    ],
)
def test_values_that_lose_nothing_are_converted(dtype: DType, shape: tuple[int, ...], value: Any) -> None:
    make = GraphBuilder("g")
    make.input("x", dtype, shape)
    make.output("y", dtype, shape)
    make.copy("x", "y")
    found = serial(make.build(), {"x": value})["y"]
    assert found.dtype == numpy_dtype(dtype)
    np.testing.assert_array_equal(found.astype(np.float64), np.reshape(value, shape).astype(np.float64))


def test_a_wrong_input_changes_nothing() -> None:
    program = ReferenceTarget().load(weighted(), {"matrix": X})
    program.run(INPUTS)
    with pytest.raises(InvalidInput):
        program.run({"token": 5 * X, "position": [9, 9]})
    np.testing.assert_array_equal(program.read("token"), X)


def test_reading_a_buffer_that_does_not_exist() -> None:
    program = ReferenceTarget().load(weighted(), {"matrix": X})
    with pytest.raises(InvalidInput, match="did you mean '%matrix'"):
        program.read("matrixx")


def test_functions_cannot_change_what_they_read() -> None:
    make = GraphBuilder("g")
    make.input("x", I32, (2,))
    make.output("y", I32, (2,))
    make.launch(vector_kernel("k", "x y", phase("spoil", "spoils", reads=["x"], writes=["y"])), x="x", y="y")
    for schedule in ("serial", "adversarial"):
        program = ReferenceTarget(schedule).load(make.build(), {})
        with pytest.raises(InvalidInput, match="raised ValueError"):
            program.run({"x": [1, 2]})
        assert program.read("x").tolist() == [1, 2]


def counting() -> Graph:
    make = GraphBuilder("counting")
    make.input("one", I32, (2,))
    make.state("total", I32, (2,), bounds=(0, 9))
    make.output("y", I32, (2,))
    make.launch(KERNELS["add_i32"], a="total", b="one", y="y")
    return make.build()


def test_state_that_is_written_is_what_the_next_replay_reads() -> None:
    program = ReferenceTarget().load(counting(), {})
    program.write("total", np.array([3, 5], np.int32))
    assert program.run({"one": [1, 1]})["y"].tolist() == [4, 6]
    assert program.read("total").tolist() == [3, 5]
    program.reset()
    assert program.read("total").tolist() == [0, 0]


@pytest.mark.parametrize(
    ("buffer", "value", "message"),
    [
        ("totals", [0, 0], "no buffer 'totals'"),
        ("one", np.zeros(2, np.int32), "buffer '%one' is input, not state"),
        ("total", np.zeros(3, np.int64), r"state '%total': expected i32\[2\], given i64\[3\]"),
        ("total", np.full(2, 1 << 40), "state '%total': element 0 is 1099511627776, which does not fit i32"),
        ("total", np.array([0, 10], np.int32), "state '%total': element 1 is 10, out of its bounds 0 to 9"),
    ],
)
def test_state_that_cannot_be_written(buffer: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        ReferenceTarget().load(counting(), {}).write(buffer, value)
