"""Bodies of child graphs and conditionals as graphs of their own, which can be analysed and rewritten like others.

A body begins when all that its node waits for is complete, and it is over (drained: each of its nodes is complete)
before what follows the node starts, before the condition of a loop is read again, and before the next round. So no
event of one run of a body is unordered with one of another run, and within a run the rules for graphs hold.

What differs is who sees what it leaves. A temporary that is not written before it is read in the body holds what comes
from outside, or from an earlier round; one that others access is seen by them. In the body's own graph these are state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain
from typing import TypeAlias

from forerun.ir.analysis import Analysis
from forerun.ir.graph import Graph
from forerun.ir.nodes import ConditionalNode, Node
from forerun.ir.semantics.access import NodeAccess, accesses, with_tables
from forerun.ir.semantics.byteset import ByteSet
from forerun.ir.types import BufferRole
from forerun.ir.walk import BodyPath, bodies_in, bodies_of

__all__ = ["body_at", "inner_graph"]

_Places: TypeAlias = dict[str, list[ByteSet]]
"""Bytes by allocation."""


def body_at(graph: Graph, path: BodyPath) -> Graph:
    """The nested graph at a path, with the tables of the graph around it; the graph itself for the empty path."""
    for step in path:
        bodies = dict(bodies_of(graph))
        graph = with_tables(graph, bodies[step,])
    return graph


def inner_graph(graph: Graph, owner: str, number: int = 0) -> Graph:
    """A body with the tables of its graph, in which the temporaries that are seen outside it are state.

    For a body in a body, ``graph`` is the inner graph of the outer one.
    """
    return _inner_graphs(graph)[owner, number]


def _all_inner(graph: Graph) -> Mapping[tuple[str, int], Graph]:
    found = {}
    for node in graph:
        bodies = bodies_in(node)
        for number, body in enumerate(bodies):
            siblings = (b for i, b in enumerate(bodies) if i != number)
            found[node.name, number] = _inner(graph, node, body, siblings)
    return found


_inner_graphs = Analysis({"nodes", "kernels", "buffers", "allocations"}, _all_inner)


def _inner(graph: Graph, owner: Node, body: Graph, siblings: Iterable[Graph]) -> Graph:
    plain = with_tables(graph, body)
    temporary = {b.allocation for b in graph.buffers.values() if b.role is BufferRole.TEMP}
    seen: _Places = {name: [] for name in temporary}
    others = [found for name, found in accesses(graph).items() if name != owner.name]
    others += [found for sibling in siblings for found in accesses(with_tables(graph, sibling)).values()]
    for access in chain.from_iterable([*others, _exposed_reads(plain, temporary)]):
        if access.allocation in seen and not access.bytes.is_empty:
            seen[access.allocation].append(access.bytes)
    if isinstance(owner, ConditionalNode) and owner.condition in graph.buffers:
        condition = graph.buffers[owner.condition]
        seen.setdefault(condition.allocation, []).append(ByteSet(condition.offset, condition.stop))
    carried = [
        replace(b, role=BufferRole.STATE)
        for b in graph.buffers.values()
        if b.role is BufferRole.TEMP and any(ByteSet(b.offset, b.stop).overlaps(s) for s in seen[b.allocation])
    ]
    if not carried:
        return plain
    edit = plain.edit()
    for buffer in carried:
        edit.set_buffer(buffer)
    inner = edit.commit()
    accesses.keep(inner, accesses(plain))  # which do not depend on roles
    return inner


def _exposed_reads(body: Graph, allocations: set[str]) -> list[NodeAccess]:
    """The reads that may see what was there before the body began: no write before covers them."""
    written: _Places = {name: [] for name in allocations}
    exposed = []
    for found in accesses(body).values():
        own = [access for access in found if access.allocation in written]
        for read in own:
            if not read.write and not any(write.covers(read.bytes) for write in written[read.allocation]):
                exposed.append(read)
        for write in own:
            if write.write and write.definite:
                written[write.allocation].append(write.bytes)
    return exposed
