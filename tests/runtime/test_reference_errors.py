"""What is wrong with functions and regions is told at load where it can be, with the place."""

from __future__ import annotations

from typing import Any

import pytest

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.kernel import BufferParameter, Kernel, Phase, Role
from forerun.ir.nodes import ConditionalNode, ScalarLoad
from forerun.ir.trust import trusting
from forerun.ir.types import HOST, BufferRole
from forerun.kernels.builtin import KERNELS
from forerun.runtime.reference import ReferenceTarget
from forerun.support.diagnostics import InvalidInput, Unsupported
from tests.runtime.support import FUNCTIONS, I32, phase, vector_kernel

PLACE = "node 'bad', kernel 'k', phase 'work', function '"


def one_phase(function: str, **more: Any) -> Graph:
    """A graph whose node ``bad`` runs one phase from ``x`` to ``y``."""
    step = phase("work", "", reads=["x"], writes=["y"], **more)
    step = Phase(step.name, step.reads, step.writes, defines=step.defines, reference=function)
    return launched(vector_kernel("k", "x y", step))


def launched(kernel: Kernel) -> Graph:
    make = GraphBuilder("g")
    make.input("x", I32, (4,))
    make.output("y", I32, (4,))
    make.launch(kernel, x="x", y="y", node="bad")
    return make.build()


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("no.such:thing", "module 'no.such' cannot be imported: ModuleNotFoundError"),
        (f"{FUNCTIONS}:twise", f"module '{FUNCTIONS}' has no function 'twise'\nhint: did you mean 'twice'?"),
        (f"{FUNCTIONS}:NOT_CALLABLE", "is not a function"),
        (f"{FUNCTIONS}:swap", "cannot be called with 1 arguments: missing a required argument: 'b'"),
        (f"{FUNCTIONS}:ones", "cannot be called with 1 arguments: too many positional arguments"),
    ],
)
def test_functions_are_checked_at_load(function: str, expected: str) -> None:
    with pytest.raises(InvalidInput) as caught, trusting("no.such"):
        ReferenceTarget().load(one_phase(function), {})
    assert str(caught.value).startswith(f"{PLACE}{function}': ")
    assert expected in str(caught.value)


@pytest.mark.parametrize("schedule", ["serial", "adversarial"])
@pytest.mark.parametrize(
    ("function", "defines", "expected"),
    [
        ("wrong_shape", (), "must return i32[4] for %y, returned i32[1]"),
        ("wrong_type", (), "must return i32[4] for %y, returned f64[4]"),
        ("not_an_array", (), "must return i32[4] for %y, returned list"),
        ("nothing", (), "must return i32[4] for %y, returned NoneType"),
        ("twice", ("local",), "must return a tuple of 2, returned ndarray"),
        ("raises", (), "raised KeyError: 'missing'"),
    ],
)
def test_results_are_checked_when_they_come(schedule: str, function: str, defines: tuple[str], expected: str) -> None:
    program = ReferenceTarget(schedule).load(one_phase(f"{FUNCTIONS}:{function}", defines=defines), {})
    with pytest.raises(InvalidInput) as caught:
        program.run({"x": [1, 2, 3, 4]})
    assert str(caught.value).startswith(f"{PLACE}{FUNCTIONS}:{function}': {expected}")


def test_a_phase_that_writes_nothing_returns_nothing() -> None:
    look = Phase("work", one_phase(f"{FUNCTIONS}:keep").kernels["k"].phases[0].reads, reference=f"{FUNCTIONS}:keep")
    store = phase("store", "twice", reads=["x"], writes=["y"])
    program = ReferenceTarget().load(launched(vector_kernel("k", "x y", look, store)), {})
    with pytest.raises(InvalidInput, match="must return None, returned ndarray"):
        program.run({"x": [1, 2, 3, 4]})


def test_a_local_is_never_none() -> None:
    give = phase("work", "nothing", reads=["x"], defines=("local",))
    store = phase("store", "twice", reads=["x"], writes=["y"])
    program = ReferenceTarget().load(launched(vector_kernel("k", "x y", give, store)), {})
    with pytest.raises(InvalidInput, match="returned None for a local"):
        program.run({"x": [1, 2, 3, 4]})


def test_black_boxes_are_unsupported() -> None:
    opaque = Kernel("k", (BufferParameter("x", I32), BufferParameter("y", I32)))
    with pytest.raises(Unsupported, match="node 'bad': kernel 'k' is a black box"):
        ReferenceTarget().load(launched(opaque), {})


def test_phases_without_functions_are_unsupported() -> None:
    silent = Phase("work", phase("p", "", reads=["x"]).reads, phase("p", "", writes=["y"]).writes)
    kernel = Kernel("k", (BufferParameter("x", I32), BufferParameter("y", I32)), (Role("all", (silent,)),))
    with pytest.raises(Unsupported, match="node 'bad', kernel 'k', phase 'work' has no reference function"):
        ReferenceTarget().load(launched(kernel), {})


@pytest.mark.parametrize("schedule", ["serial", "adversarial"])
def test_regions_that_leave_their_buffer(schedule: str) -> None:
    make = GraphBuilder("g")
    make.input("row", I32, (1,))
    make.input("x", I32, (2,))
    make.state("m", I32, (4, 2))
    make.launch(KERNELS["scale_row_i32"], x="x", m="m", row=ScalarLoad("row"), node="update")
    program = ReferenceTarget(schedule).load(make.build(), {})
    program.run({"row": 3, "x": [1, 2]})
    for row in (4, -1):
        with pytest.raises(InvalidInput) as caught:
            program.run({"row": row, "x": [1, 2]})
        assert str(caught.value).startswith(
            "node 'update', kernel 'scale_row_i32', phase 'scale_row', function "
            f"'forerun.kernels.builtin:scale_row': rows {row}:{row + 1} are outside of dimension 0 of %m, which has 4"
        )


@pytest.mark.parametrize("schedule", ["serial", "adversarial"])
def test_a_loop_without_end(schedule: str) -> None:
    make = GraphBuilder("g")
    make.input("go", I32, (1,))
    make.output("y", I32, (1,))
    make.fill("y")
    make.add(ConditionalNode("forever", "while", "go", (Graph("body"),)))
    program = ReferenceTarget(schedule, loop_limit=5).load(make.build(), {})
    assert program.run({"go": 0})["y"].tolist() == [0]
    with pytest.raises(InvalidInput, match="node 'forever': still runs after 5 rounds"):
        program.run({"go": 1})


@pytest.mark.parametrize("schedule", ["serial", "adversarial"])
def test_host_calls_are_checked_too(schedule: str) -> None:
    make = GraphBuilder("g")
    make.buffer("x", I32, (2,), BufferRole.INPUT, place=HOST)
    make.buffer("y", I32, (1,), BufferRole.OUTPUT, place=HOST)
    make.host(f"{FUNCTIONS}:keep", ["x"], ["y"], node="call")
    program = ReferenceTarget(schedule).load(make.build(), {})
    with pytest.raises(InvalidInput, match=r"node 'call', function '.*:keep': must return i32\[1\] for %y"):
        program.run({"x": [1, 2]})


def test_invalid_graphs_are_not_loaded() -> None:
    edit = launched(KERNELS["copy_i32"]).edit()
    edit.remove_buffer("y")
    with pytest.raises(InvalidInput, match="is not valid"):
        ReferenceTarget().load(edit.commit(), {})
