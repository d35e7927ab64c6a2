"""Random programs of which some kernels run on the host, and some memory lies there."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.nodes import KernelNode
from forerun.ir.types import HOST, DependencyKind, DType
from forerun.kernels.builtin import KERNELS
from forerun.testing import KernelShape, graphs
from forerun.testing.graph_strategy import Order

__all__ = ["placed_programs", "streamed_programs"]

_N = 4


@st.composite
def placed_programs(draw: st.DrawFn, order: Order | None = None) -> Graph:
    """A program whose kernels and weights were put on the host as drawn; its copies do not exist yet."""
    shape = draw(st.sampled_from([KernelShape(), KernelShape(partial=False), KernelShape(waits=False, roles=1)]))
    graph = draw(graphs(order=order, kernel_shape=shape, max_nodes=6))
    launched = [name for name, node in graph.nodes.items() if isinstance(node, KernelNode)]
    chosen = draw(st.sets(st.sampled_from(launched))) if launched else set()
    edit = graph.edit()
    for name in chosen:
        node = edit.node(name)
        assert isinstance(node, KernelNode)
        edit.replace_node(replace(node, place=HOST))
        for dependency in (*edit.incoming(name), *edit.outgoing(name)):
            edit.set_dependency(replace(dependency, kind=DependencyKind.FULL))
    if "w" in graph.allocations and draw(st.booleans()):
        edit.set_allocation(replace(graph.allocations["w"], place=HOST))
    return edit.commit()


@st.composite
def streamed_programs(draw: st.DrawFn) -> Graph:
    """A chain of kernels of both places with weights that lie on the host, some used once and some again."""
    builder = GraphBuilder("streamed")
    value = builder.input("x", DType.I32, (_N,))
    builder.output("y", DType.I32, (_N,))
    known, before = [builder.weight(f"w{i}", DType.I32, (_N,)) for i in range(4)], ""
    launched = draw(st.integers(2, 5))
    for turn in range(launched):
        weight = draw(st.sampled_from(known))
        result = "y" if turn == launched - 1 else builder.temp(f"t{turn}", DType.I32, (_N,))
        after = [before] if before else []
        before = f"n{turn}"
        builder.launch(KERNELS["add_i32"], a=value, b=weight, y=result, node=before, after=after)
        value = result
    graph = builder.build()
    edit = graph.edit()
    for name in (f"w{i}" for i in range(4)):
        edit.set_allocation(replace(graph.allocations[name], place=HOST))
    for node in graph:
        if isinstance(node, KernelNode) and draw(st.integers(0, 3)) == 0:
            edit.replace_node(replace(node, place=HOST))
    return edit.commit()
