"""What a rewrite changed of a graph, by kind: what passes declare in ``changes``."""

from __future__ import annotations

from dataclasses import replace

from forerun.ir.graph import Graph
from forerun.ir.nodes import KernelNode, Launch, Node
from forerun.ir.walk import bodies_in, with_bodies

__all__ = ["changed_parts"]


def changed_parts(before: Graph, after: Graph) -> frozenset[str]:
    """Which of ``PARTS`` of passes differ, in the graph or in a body of a node that both have."""
    return frozenset(_changed(before, after, before, after))


def _changed(before: Graph, after: Graph, old_tables: Graph, new_tables: Graph) -> set[str]:
    found = set()
    if dict(before.buffers) != dict(after.buffers) or dict(before.allocations) != dict(after.allocations):
        found.add("memory")
    if {d.pair: d for d in before.dependencies} != {d.pair: d for d in after.dependencies}:
        found.add("dependencies")
    if list(before.nodes) != list(after.nodes):
        found.add("nodes")
    for old, new in ((node, after.nodes[name]) for name, node in before.nodes.items() if name in after.nodes):
        found |= _changed_node(old, new, old_tables, new_tables)
    return found


def _changed_node(old: Node, new: Node, old_tables: Graph, new_tables: Graph) -> set[str]:
    found = set()
    if isinstance(old, KernelNode) and isinstance(new, KernelNode):
        kernel, other = old_tables.kernels[old.kernel], new_tables.kernels[new.kernel]
        if kernel.roles != other.roles:
            found.add("bodies")
        if old.launch != new.launch:
            found.add("launches")
        same = replace(kernel, name="", roles=None) == replace(other, name="", roles=None)
        same = same and replace(old, kernel="", launch=Launch()) == replace(new, kernel="", launch=Launch())
        return found if same else found | {"nodes"}
    inner, others = bodies_in(old), bodies_in(new)
    if type(old) is not type(new) or len(inner) != len(others) or with_bodies(new, inner) != old:
        return {"nodes"}
    for body, other_body in zip(inner, others, strict=True):
        found |= _changed(body, other_body, old_tables, new_tables)
    return found
