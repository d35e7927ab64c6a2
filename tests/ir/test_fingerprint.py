"""Fingerprints: equal for equal graphs, different after any change, also one made in place."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from forerun.ir.fingerprint import fingerprint
from forerun.ir.graph import Dependency, Graph, Hazard
from forerun.ir.nodes import ConstantArgument, EmptyNode, KernelNode
from forerun.ir.text import parse_graph, print_graph
from forerun.ir.types import DependencyKind
from tests.strategies import graphs, graphs_of_nonsense, portion


@portion(15)
@given(graph=graphs(), data=st.data())
def test_the_order_of_tables_does_not_matter(graph: Graph, data: st.DataObject) -> None:
    tables = [
        data.draw(st.permutations(list(table)))
        for table in (graph.allocations.values(), graph.buffers.values(), graph.kernels.values())
    ]
    same = Graph(graph.name, *tables, graph, data.draw(st.permutations(graph.dependencies)))
    assert same == graph
    assert fingerprint(same) == fingerprint(graph) == fingerprint(parse_graph(print_graph(graph)))


@portion(15)
@given(first=graphs(depth=0), second=graphs(depth=0))
def test_different_graphs(first: Graph, second: Graph) -> None:
    assert (fingerprint(first) == fingerprint(second)) == (first == second)


@portion(10)
@given(graph=graphs_of_nonsense())
def test_any_graph_has_one(graph: Graph) -> None:
    assert fingerprint(graph) == fingerprint(graph)


LINE = Graph("line", nodes=map(EmptyNode, "abc"), dependencies=[Dependency("a", "b"), Dependency("b", "zz")])


def test_every_part_counts() -> None:
    nodes, dependencies = list(LINE), list(LINE.dependencies)
    variants = [
        LINE,
        Graph("other", nodes=nodes, dependencies=dependencies),
        Graph("line", nodes=nodes[::-1], dependencies=dependencies),
        Graph("line", nodes=nodes, dependencies=dependencies[:1]),
        Graph("line", nodes=nodes, dependencies=dependencies[1:]),
        Graph("line", nodes=nodes, dependencies=[Dependency("a", "b", DependencyKind.PROGRAMMATIC), dependencies[1]]),
        Graph("line", nodes=nodes, dependencies=[Dependency("a", "b", hazards=(Hazard("RAW", "x"),)), dependencies[1]]),
    ]
    assert len({fingerprint(graph) for graph in variants}) == len(variants)


def test_integers_are_not_floats() -> None:
    one, other = (Graph("g", nodes=[KernelNode("n", "k", (("x", ConstantArgument(v)),))]) for v in (1, 1.0))
    assert one != other
    assert fingerprint(one) != fingerprint(other)


def test_a_change_in_place_is_seen() -> None:
    graph = Graph("line", nodes=map(EmptyNode, "abc"), dependencies=[Dependency("a", "b")])
    before = fingerprint(graph)
    graph._topology.remove_edge("a", "b")
    assert fingerprint(graph) != before


def test_it_is_the_same_on_every_machine() -> None:
    assert fingerprint(LINE) == "6bac8567fd556a6ee5f8c1aa684f9b1e06f5ab61ae42e0166b3ecee91ee44aa1"
