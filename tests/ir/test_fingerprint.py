"""Hashes of content: the same until a graph changes, different after any change, also one made in place."""

from __future__ import annotations

from hypothesis import given

from forerun.ir.fingerprint import content_hash
from forerun.ir.graph import Dependency, Graph, Hazard
from forerun.ir.nodes import ConstantArgument, EmptyNode, KernelNode
from forerun.ir.text import print_graph
from forerun.ir.types import DependencyKind
from forerun.ir.verify import verify
from tests.strategies import graphs, portion


@portion(15)
@given(graph=graphs())
def test_reading_a_graph_changes_nothing(graph: Graph) -> None:
    found = content_hash(graph)
    verify(graph)
    print_graph(graph)
    assert content_hash(graph) == found


@portion(15)
@given(first=graphs(depth=0), second=graphs(depth=0))
def test_different_graphs(first: Graph, second: Graph) -> None:
    assert first == second or content_hash(first) != content_hash(second)


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
    assert len({content_hash(graph) for graph in variants}) == len(variants)


def test_integers_are_not_floats() -> None:
    one, other = (Graph("g", nodes=[KernelNode("n", "k", (("x", ConstantArgument(v)),))]) for v in (1, 1.0))
    assert one != other
    assert content_hash(one) != content_hash(other)


def test_a_change_in_place_is_seen() -> None:
    graph = Graph("line", nodes=map(EmptyNode, "abc"), dependencies=[Dependency("a", "b")])
    before = content_hash(graph)
    graph._topology.remove_edge("a", "b")
    assert content_hash(graph) != before
