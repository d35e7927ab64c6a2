"""Cycles of dependencies: long ones are cut in the message, and ends that are missing crash nothing."""

from __future__ import annotations

from forerun.ir.graph import Dependency, Graph
from forerun.ir.nodes import EmptyNode
from forerun.ir.verify import verify


def test_a_long_cycle_is_cut() -> None:
    names = [f"n{i}" for i in range(40)]
    ring = [Dependency(a, b) for a, b in zip(names, [*names[1:], names[0]], strict=True)]
    (found,) = verify(Graph("ring", nodes=[EmptyNode(name) for name in names], dependencies=ring))
    assert found.code == "G3"
    assert found.message.startswith("cycle of 40: #n0 -> #n1")
    assert " -> ... -> " in found.message


def test_a_cycle_through_a_node_that_is_not_there() -> None:
    nodes = [EmptyNode("a"), EmptyNode("b")]
    dependencies = [Dependency("b", "a"), Dependency("a", "zz"), Dependency("zz", "a")]
    found = [diagnostic.code for diagnostic in verify(Graph("g", nodes=nodes, dependencies=dependencies))]
    assert "G2" in found
    assert "G3" in found
