"""The builder: stream order, names, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Dependency
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import ConstantArgument, KernelNode, ScalarLoad
from forerun.ir.types import BufferRole, DependencyKind, DType
from forerun.kernels import add, embedding
from forerun.support.diagnostics import InvalidInput


def builder() -> GraphBuilder:
    made = GraphBuilder("g")
    made.input("x", DType.F32, (8,))
    made.temp("t", DType.F32, (8,))
    made.output("y", DType.F32, (8,))
    return made


def test_nodes_are_in_stream_order() -> None:
    made = builder()
    made.launch(add.KERNEL, a="x", b="x", y="t")
    made.launch(add.KERNEL, a="t", b="x", y="y", node="last")
    graph = made.build()
    assert list(graph.nodes) == ["add.0", "last"]
    assert graph.dependencies == (Dependency("add.0", "last"),)


def test_sources_can_be_named() -> None:
    made = builder()
    first = made.fill("t", 1)
    second = made.copy("x", "y", after=[])
    join = made.join([first, second])
    graph = made.build()
    assert {d.pair for d in graph.dependencies} == {(first, join), (second, join)}


def test_edges_of_any_kind() -> None:
    made = builder()
    made.launch(add.KERNEL, a="x", b="x", y="t", node="a")
    made.launch(add.KERNEL, a="t", b="x", y="y", node="b", after=[])
    made.depend("a", "b", DependencyKind.PROGRAMMATIC)
    assert made.build().count_dependencies() == {"full": 0, "programmatic": 1, "launch_order": 0}


def test_scalars_are_numbers_or_loads() -> None:
    made = builder()
    made.weight("table", DType.F32, (4, 8))
    made.input("token", DType.I32, (1,), bounds=(0, 3))
    made.launch(embedding.KERNEL, table="table", y="t", token=ScalarLoad("token"), node="loaded")
    made.launch(embedding.KERNEL, table="table", y="y", token=2, node="fixed")
    graph = made.build()
    bound = [node.argument("token") for node in graph if isinstance(node, KernelNode)]
    assert bound == [ScalarLoad("token"), ConstantArgument(2)]


def test_views_of_one_allocation() -> None:
    made = GraphBuilder("g")
    arena = made.allocation("arena", 64)
    made.buffer("low", DType.F32, (8,), BufferRole.TEMP, allocation=arena)
    made.buffer("high", DType.F32, (8,), BufferRole.TEMP, allocation=arena, offset=32)
    made.output("y", DType.F32, (8,))
    made.fill("low")
    made.copy("low", "high")
    made.copy("high", "y")
    assert made.build().buffers["high"].stop == 64


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda b: b.input("x", DType.F32, (1,)), "buffer 'x' exists already"),
        (lambda b: b.launch(add.KERNEL, a="x", b="x", z="y"), "no parameter 'z'"),
        (lambda b: b.launch(add.KERNEL, a="x", b="x"), "lacks arguments: y"),
        (lambda b: b.launch(add.KERNEL, a="X", b="x", y="y"), "did you mean '%x'"),
        (lambda b: b.depend("a", "b"), "no node 'a'"),
        (lambda b: (b.fill("t", node="n"), b.fill("t", node="n")), "node 'n' exists already"),
        (lambda b: b.fill("t", after=["m"]), "no node 'm'"),
        (lambda b: (b.fill("t"), b.launch(Kernel("add"), node="k"), b.launch(add.KERNEL)), "declared differently"),
        (lambda b: b.build(), "an output that no node writes"),
    ],
)
def test_refusals(act: Callable[[GraphBuilder], object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        act(builder())


def test_a_broken_graph_can_be_had() -> None:
    assert len(builder().build(verify=False)) == 0
