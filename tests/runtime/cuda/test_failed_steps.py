"""A step in which a function of the host raises: state is what it was before it, and the next step runs."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.nodes import ScalarLoad
from forerun.ir.types import HOST, BufferRole
from forerun.kernels.builtin import KERNELS
from forerun.runtime.cuda import CudaTarget
from forerun.runtime.reference import ReferenceTarget
from forerun.support.diagnostics import InvalidInput
from tests.runtime.cuda.fake_driver import FakeCuda
from tests.runtime.cuda.support import on_fake
from tests.runtime.failing_programs import I32, ROWS, UNLUCKY, N, failing_programs

TARGETS: Mapping[str, Any] = {
    "graph": CudaTarget(),
    "plans": CudaTarget(splits="plans"),
    "synchronous": CudaTarget(splits="synchronous"),
    "measured": CudaTarget(splits="measured"),
    "serial": ReferenceTarget(),
    "adversarial": ReferenceTarget("adversarial", seed=5),
}


@st.composite
def steps(draw: st.DrawFn) -> list[dict[str, Any]]:
    """The inputs of some replays; an unlucky one raises."""
    found = []
    for _ in range(draw(st.integers(2, 4))):
        first = draw(st.sampled_from([UNLUCKY, 1, 2]))
        x = [first, *draw(st.lists(st.integers(-9, 9), min_size=N - 1, max_size=N - 1))]
        found.append({"x": np.array(x, np.int32), "row": np.array([draw(st.integers(0, ROWS - 1))], np.int32)})
    return found


def is_unlucky(inputs: Mapping[str, Any]) -> bool:
    return bool(inputs["x"][0] == UNLUCKY)


def state_of(program: Any, graph: Graph) -> dict[str, Any]:
    return {b.name: program.read(b.name) for b in graph.buffers.values() if b.role is BufferRole.STATE}


def assert_same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("target", TARGETS)
@given(graph=failing_programs(), inputs=steps())
def test_other_replays_are_as_if_the_failed_one_had_not_been(
    target: str, graph: Graph, inputs: list[dict[str, Any]]
) -> None:
    event(f"failing: {sum(map(is_unlucky, inputs))}")
    with pytest.MonkeyPatch.context() as patch, on_fake(patch, FakeCuda()):
        expected, program = ReferenceTarget().load(graph, {}), TARGETS[target].load(graph, {})
        for given_ in inputs:
            if is_unlucky(given_):
                with pytest.raises(InvalidInput, match="thirteen"):
                    program.run(given_)
            else:
                assert_same(program.run(given_), expected.run(given_))
            assert_same(state_of(program, graph), state_of(expected, graph))
        program.close()


@pytest.mark.parametrize("splits", ["graph", "plans", "synchronous", "measured"])
@given(graph=failing_programs(), inputs=steps())
def test_what_is_enqueued_after_a_failure_does_nothing(splits: str, graph: Graph, inputs: list[dict[str, Any]]) -> None:
    """Of what is launched without a wait, the replays up to the one that fails count."""
    with pytest.MonkeyPatch.context() as patch, on_fake(patch, FakeCuda()):
        expected, program = ReferenceTarget().load(graph, {}), TARGETS[splits].load(graph, {})
        lucky = True
        for given_ in inputs:
            for name, value in given_.items():
                program.buffer(name).assign(value)
            program.launch()
            lucky = lucky and not is_unlucky(given_)
            if lucky:
                expected.run(given_)
        if not lucky:
            with pytest.raises(InvalidInput, match="thirteen"):
                program.synchronize()
        assert_same(state_of(program, graph), state_of(expected, graph))
        again = {"x": np.ones(N, np.int32), "row": np.zeros(1, np.int32)}
        assert_same(program.run(again), expected.run(again))
        assert_same(state_of(program, graph), state_of(expected, graph))
        program.close()


def _no_copy(driver: FakeCuda, *words: int) -> None:
    """A replay that cannot be undone."""


def _one_copy(driver: FakeCuda, table: int, moved: int, count: int, arrived: int, failed: int, put_back: int) -> None:
    """Replays after the failed one make no copy, but they run."""
    if put_back or not ctypes.c_uint32.from_address(failed).value:
        driver._move_state(table, moved, count, put_back=bool(put_back))


@pytest.mark.parametrize(("wrong", "rows"), [(_no_copy, [0]), (_one_copy, [0, 1]), (None, [0, 1])])
def test_wrong_ways_to_copy_state_show(wrong: Any, rows: list[int]) -> None:
    """A replay that fails in row 0, and one in row 1 that is enqueued behind it."""
    builder = GraphBuilder("rows")
    x, here = builder.input("x", I32, (N,)), builder.buffer("here", I32, (N,), BufferRole.TEMP, place=HOST)
    builder.input("row", I32, (1,), bounds=(0, ROWS - 1))
    m = builder.state("m", I32, (ROWS, N))
    builder.launch(KERNELS["scale_row_i32"], x=x, m=m, row=ScalarLoad("row"))
    builder.copy(x, here)
    y = builder.buffer("y", I32, (N,), BufferRole.OUTPUT, place=HOST)
    builder.host("tests.runtime.cuda.hosts:fail", [here], [y])
    with pytest.MonkeyPatch.context() as patch, on_fake(patch, FakeCuda()):
        if wrong is not None:
            patch.setattr(FakeCuda, "_save_state", wrong)
        program = CudaTarget().load(builder.build(), {})
        program.buffer("x").assign(np.full(N, UNLUCKY, np.int32))
        for row in rows:
            program.buffer("row").assign([row])
            program.launch()
        with pytest.raises(InvalidInput, match="thirteen"):
            program.synchronize()
        assert program.read(m).any() == (wrong is not None)
        program.close()
