"""Serial order against values worked out by hand, for every kind of node."""

from __future__ import annotations

from itertools import pairwise

import ml_dtypes
import numpy as np
import pytest

from forerun.ir.affine import affine
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Barrier, BufferParameter, Kernel, Role, ScalarParameter, Trigger, Wait
from forerun.ir.nodes import (
    AllocNode,
    ChildGraphNode,
    ConditionalNode,
    EventRecordNode,
    EventWaitNode,
    FreeNode,
    KernelNode,
    MemcpyNode,
    MemsetNode,
    ScalarLoad,
)
from forerun.ir.region import BufferView, region
from forerun.ir.types import HOST, BufferRole, DType
from forerun.kernels.builtin import KERNELS
from forerun.runtime.reference import ReferenceTarget
from forerun.support.diagnostics import InvalidInput
from tests.runtime.support import F32, FUNCTIONS, I32, i32, phase, serial, vector_kernel

PLUS = vector_kernel("plus", "x y", phase("plus", "plus", reads=["x"], writes=["y"], scalars=("n",)), scalars="n")


def test_kernels_with_constants_and_locals() -> None:
    make = GraphBuilder("g")
    make.input("x", I32, (4,))
    make.temp("t", I32, (4,))
    make.output("y", I32, (4,))
    make.launch(PLUS, x="x", y="t", n=5)
    make.launch(KERNELS["add_i32"], a="x", b="t", y="y")
    found = serial(make.build(), {"x": [1, 2, 3, 4]})
    np.testing.assert_array_equal(found["y"], i32(7, 9, 11, 13))


def test_waits_and_triggers_do_nothing_in_serial_order() -> None:
    make = GraphBuilder("g")
    make.input("x", I32, (2,))
    make.output("y", I32, (2,))
    make.launch(
        vector_kernel("k", "x y", Trigger(), phase("twice", "twice", reads=["x"], writes=["y"]), Wait()), x="x", y="y"
    )
    np.testing.assert_array_equal(serial(make.build(), {"x": [3, 4]})["y"], i32(6, 8))


def test_loaded_scalar_chooses_the_region_where_the_phase_executes() -> None:
    """The first node writes the scalar that the second one loads."""
    make = GraphBuilder("g")
    make.input("n", I32, (2,))
    make.state("row", I32, (2,), bounds=(6, 9))
    make.state("m", I32, (4, 2))
    make.input("x", I32, (2,))
    make.output("y", I32, (4, 2))
    make.launch(KERNELS["copy_i32"], x="n", y="row")
    make.launch(KERNELS["scale_row_i32"], x="x", m="m", row=ScalarLoad("row", 1, -6))
    make.copy("m", "y")
    found = serial(make.build(), {"n": [6, 8], "x": [5, 6]})
    np.testing.assert_array_equal(found["y"], [[0, 0], [0, 0], [5, 6], [0, 0]])


def test_affine_bounds_over_dimension_names_and_scalars() -> None:
    """Reads the last ``count`` elements but one, of ``n``."""
    tail = region((affine("n") - 1 - affine("count"), affine("n") - 1))
    kernel = Kernel(
        "tail",
        (BufferParameter("x", I32, ("n",)), BufferParameter("y", I32, (1,)), ScalarParameter("count", I32)),
        (Role("all", (phase("total", "total", reads=[("x", tail)], writes=["y"]),)),),
    )
    make = GraphBuilder("g")
    make.input("x", I32, (6,))
    make.input("count", I32, (1,))
    make.output("constant", I32, (1,))
    make.output("loaded", I32, (1,))
    make.launch(kernel, x="x", y="constant", count=2)
    make.launch(kernel, x="x", y="loaded", count=ScalarLoad("count"))
    found = serial(make.build(), {"x": [1, 10, 100, 1000, 10000, 100000], "count": 3})
    assert found["constant"].tolist() == [11000]
    assert found["loaded"].tolist() == [11100]


def test_scalars_reach_the_function_in_order_and_as_numbers() -> None:
    add = phase("add", "add_scalars", reads=["x"], writes=["y"], scalars=("scale", "k"))
    buffers = (BufferParameter("x", F32, (None,)), BufferParameter("y", F32, (None,)))
    numbers = (ScalarParameter("scale", F32), ScalarParameter("k", I32))
    kernel = Kernel("scaled", (*buffers, *numbers), (Role("all", (add,)),))
    make = GraphBuilder("g")
    make.input("x", F32, (2,))
    make.input("k", I32, (1,))
    make.output("y", F32, (2,))
    make.launch(kernel, x="x", y="y", scale=0.5, k=ScalarLoad("k", 0, 1))
    np.testing.assert_array_equal(serial(make.build(), {"x": [1.0, 2.0], "k": 2})["y"], np.float32([2.5, 3.5]))


def test_roles_meet_at_barriers() -> None:
    """What the loader gives before the barrier, the others take after it, in whatever order the roles are listed."""
    give = phase("load", "keep", reads=["x"], defines=("kept",))
    take = phase("use", "kept_plus", reads=["x"], writes=["y"], uses=("kept",))
    roles = (Role("compute", (Barrier(), take), 1), Role("loader", (give, Barrier()), 1))
    kernel = Kernel("k", (BufferParameter("x", I32, (None,)), BufferParameter("y", I32, (None,))), roles)
    make = GraphBuilder("g")
    make.input("x", I32, (2,))
    make.output("y", I32, (2,))
    make.launch(kernel, x="x", y="y")
    np.testing.assert_array_equal(serial(make.build(), {"x": [3, 4]})["y"], i32(6, 8))


def test_a_local_keeps_what_was_read_when_the_kernel_overwrites_it() -> None:
    """The result would be 4 times x if the local were a view of memory that a later phase has written."""
    steps = (
        phase("load", "keep", reads=["y"], defines=("kept",)),
        phase("twice", "twice", reads=["y"], writes=["y"]),
        phase("sum", "kept_plus", reads=["y"], uses=("kept",), writes=["y"]),
    )
    make = GraphBuilder("g")
    make.input("x", I32, (2,))
    make.output("y", I32, (2,))
    make.launch(KERNELS["copy_i32"], x="x", y="y")
    make.launch(vector_kernel("k", "y", *steps), y="y")
    np.testing.assert_array_equal(serial(make.build(), {"x": [3, 4]})["y"], i32(9, 12))


def test_two_writes_of_one_phase_do_not_spoil_each_other() -> None:
    make = GraphBuilder("g")
    for name in ("a", "b"):
        make.input(f"{name}0", I32, (2,))
        make.output(name, I32, (2,))
        make.launch(KERNELS["copy_i32"], x=f"{name}0", y=name)
    make.launch(vector_kernel("k", "a b", phase("swap", "swap", reads=["a", "b"], writes=["a", "b"])), a="a", b="b")
    found = serial(make.build(), {"a0": [1, 2], "b0": [3, 4]})
    assert (found["a"].tolist(), found["b"].tolist()) == ([3, 4], [1, 2])


def test_overlapping_views_are_the_same_memory() -> None:
    make = GraphBuilder("g")
    make.allocation("arena", 24)
    for name, offset, count in (("whole", 0, 6), ("middle", 8, 3)):
        make.buffer(name, I32, (count,), BufferRole.TEMP, allocation="arena", offset=offset)
    make.buffer("bytes", DType.U8, (24,), BufferRole.TEMP, allocation="arena")
    make.input("x", I32, (6,))
    make.output("y", I32, (6,))
    make.output("raw", DType.U8, (24,))
    make.launch(KERNELS["copy_i32"], x="x", y="whole")
    make.launch(KERNELS["turn_i32"], y="middle")
    make.copy("whole", "y")
    make.copy("bytes", "raw")
    found = serial(make.build(), {"x": [1, 2, 3, 4, 5, 6]})
    assert found["y"].tolist() == [1, 2, 16, 13, 10, 6]
    assert found["raw"].view(np.int32).tolist() == found["y"].tolist()


def test_copies_of_regions_and_shapes() -> None:
    make = GraphBuilder("g")
    make.input("x", I32, (3, 4))
    make.output("y", I32, (2, 2))
    make.output("z", I32, (12,))
    make.add(MemcpyNode("box", BufferView("x", region((1, 3), (1, 3))), BufferView("y")))
    make.copy("x", "z")
    found = serial(make.build(), {"x": np.arange(12, dtype=np.int32).reshape(3, 4)})
    assert found["y"].tolist() == [[5, 6], [9, 10]]
    assert found["z"].tolist() == list(range(12))


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [(DType.U8, 200, 200), (DType.I16, 0xFFFE, -2), (DType.F32, 0x3FC00000, 1.5), (DType.BF16, 0xBF80, -1.0)],
)
def test_fills_write_bit_patterns(dtype: DType, value: int, expected: float) -> None:
    make = GraphBuilder("g")
    make.output("y", dtype, (4,))
    make.fill("y", 0)
    make.add(MemsetNode("some", BufferView("y", region((1, 3))), value))
    found = serial(make.build(), {})["y"]
    assert found.astype(np.float64).tolist() == [0, expected, expected, 0]


def test_host_calls() -> None:
    make = GraphBuilder("g")
    make.buffer("a", I32, (2,), BufferRole.INPUT, place=HOST)
    make.buffer("b", I32, (2,), BufferRole.INPUT, place=HOST)
    make.buffer("y", I32, (2,), BufferRole.OUTPUT, place=HOST)
    make.buffer("z", I32, (2,), BufferRole.OUTPUT, place=HOST)
    make.host(f"{FUNCTIONS}:swap", ["a", "b"], ["y", "z"])
    make.host(f"{FUNCTIONS}:swap", ["y", "z"], ["y", "z"])
    found = serial(make.build(), {"a": [1, 2], "b": [3, 4]})
    assert (found["y"].tolist(), found["z"].tolist()) == ([1, 2], [3, 4])


def test_empty_and_event_nodes_do_nothing() -> None:
    make = GraphBuilder("g")
    make.input("x", I32, (2,))
    make.output("y", I32, (2,))
    make.add(EventWaitNode("before", "ready"))
    make.copy("x", "y")
    make.add(EventRecordNode("after", "done"))
    make.join(["after"])
    assert serial(make.build(), {"x": [1, 2]})["y"].tolist() == [1, 2]


def test_allocating_spoils_the_memory() -> None:
    make = GraphBuilder("g")
    make.temp("t", I32, (2,))
    make.output("y", I32, (2,))
    make.add(AllocNode("allocate", "t"))
    make.add(MemsetNode("half", BufferView("t", region((0, 1))), 7))
    make.copy("t", "y")
    make.add(FreeNode("free", "t"))
    assert serial(make.build(), {})["y"].tolist() == [7, -1]


def test_what_was_freed_is_not_read() -> None:
    make = GraphBuilder("g")
    make.input("x", I32, (2,))
    make.temp("t", I32, (2,))
    make.output("y", I32, (2,))
    make.add(AllocNode("allocate", "t"))
    make.copy("x", "t")
    make.add(FreeNode("free", "t"))
    make.copy("t", "y")
    with pytest.raises(InvalidInput, match="not valid"):
        serial(make.build(), {"x": [1, 2]})


def body_of(*nodes: KernelNode, name: str = "body") -> Graph:
    return Graph(name, nodes=nodes, dependencies=[Dependency(a.name, b.name) for a, b in pairwise(nodes)])


def launch(name: str, kernel: Kernel, make: GraphBuilder, **arguments: str | int) -> KernelNode:
    """A node for a body; its kernel is declared in the enclosing graph by launching it there first."""
    other = GraphBuilder("other")
    other._buffers, other._allocations = make._buffers, make._allocations
    other.launch(kernel, node=name, **arguments)
    node = other._nodes[name]
    assert isinstance(node, KernelNode)
    make._kernels.setdefault(kernel.name, kernel)
    return node


def test_child_graphs_use_the_tables_around_them() -> None:
    make = GraphBuilder("g")
    make.input("x", I32, (2,))
    make.output("y", I32, (2,))
    turn = KERNELS["turn_i32"]
    inner = body_of(launch("copy", KERNELS["copy_i32"], make, x="x", y="y"), launch("turn", turn, make, y="y"))
    make.add(ChildGraphNode("child", body_of(*[], name="nothing")))
    make.add(ChildGraphNode("twice", Graph("outer", nodes=[ChildGraphNode("inner", inner)])))
    assert serial(make.build(), {"x": [1, 2]})["y"].tolist() == [7, 4]


@pytest.mark.parametrize(
    ("kind", "count", "value", "expected"),
    [
        ("if", 1, 0, 0),
        ("if", 1, 5, 1),
        ("if", 2, 0, 10),
        ("if", 2, -1, 1),
        ("switch", 3, 0, 1),
        ("switch", 3, 2, 100),
        ("switch", 3, 3, 0),
        ("switch", 3, -1, 0),
    ],
)
def test_conditionals_choose_a_body(kind: str, count: int, value: int, expected: int) -> None:
    make = GraphBuilder("g")
    make.input("which", I32, (1,))
    make.output("y", I32, (1,))
    make.fill("y", 0)
    bodies = tuple(body_of(launch("plus", PLUS, make, x="y", y="y", n=10**i), name=f"b{i}") for i in range(count))
    make.add(ConditionalNode("choose", kind, "which", bodies))
    assert serial(make.build(), {"which": value})["y"].tolist() == [expected]


def test_while_runs_until_its_condition_is_zero() -> None:
    make = GraphBuilder("g")
    make.input("rounds", I32, (1,))
    make.state("left", I32, (1,))
    make.output("y", I32, (1,))
    make.copy("rounds", "left")
    make.fill("y", 1)
    countdown = vector_kernel("countdown", "n", phase("down", "countdown", reads=["n"], writes=["n"]))
    twice = vector_kernel("double", "y", phase("twice", "twice", reads=["y"], writes=["y"]))
    loop = body_of(launch("down", countdown, make, n="left"), launch("twice", twice, make, y="y"))
    make.add(ConditionalNode("loop", "while", "left", (loop,)))
    graph = make.build()
    assert serial(graph, {"rounds": 5})["y"].tolist() == [32]
    assert serial(graph, {"rounds": 0})["y"].tolist() == [1]


def test_state_survives_and_resets() -> None:
    make = GraphBuilder("g")
    make.input("x", F32, (3,))
    make.state("sum", F32, (3,))
    make.output("y", F32, (3,))
    make.launch(KERNELS["accumulate_f32"], x="x", y="sum")
    make.copy("sum", "y")
    program = ReferenceTarget().load(make.build(), {})
    x = np.ones(3, np.float32)
    assert [program.run({"x": x})["y"][0] for _ in range(3)] == [1.0, 1.5, 1.75]
    program.reset()
    assert program.run({"x": x})["y"].tolist() == [1.0, 1.0, 1.0]


def test_bf16() -> None:
    make = GraphBuilder("g")
    make.weight("w", DType.BF16, (2, 2))
    make.input("x", DType.BF16, (2, 2))
    make.output("y", DType.BF16, (2, 2))
    steps = (
        phase("load", "keep", reads=["w"], defines=("kept",)),
        phase("add", "kept_plus", reads=["x"], uses=("kept",), writes=["y"]),
    )
    parameters = tuple(BufferParameter(name, DType.BF16, (2, 2)) for name in ("w", "x", "y"))
    make.launch(Kernel("add", parameters, (Role("all", steps),)), w="w", x="x", y="y")
    w = np.array([[1, 2], [3, 4]], ml_dtypes.bfloat16)
    found = serial(make.build(), {"x": [[0.5, 0.5], [0.25, 1]]}, {"w": w})["y"]
    assert found.dtype == ml_dtypes.bfloat16
    assert found.astype(np.float32).tolist() == [[1.5, 2.5], [3.25, 5.0]]


def test_a_graph_without_nodes() -> None:
    assert serial(Graph("nothing"), {}) == {}
