"""What nodes of random graphs touch, and dependencies that order them by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from random import Random

from forerun.ir.buffer import Paged
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Kernel, Wait
from forerun.ir.nodes import (
    AllocNode,
    BufferArgument,
    ChildGraphNode,
    ConditionalNode,
    EventRecordNode,
    EventWaitNode,
    FreeNode,
    HostCallbackNode,
    KernelNode,
    MemcpyNode,
    MemsetNode,
    Node,
    ScalarLoad,
)
from forerun.ir.types import DependencyKind

__all__ = ["chain", "ordered", "touched"]


def touched(node: Node, kernels: dict[str, Kernel]) -> tuple[set[str], set[str]]:
    """The buffers that a node names to read and to write; a black box both."""
    reads, writes = set[str](), set[str]()
    match node:
        case KernelNode():
            kernel = kernels[node.kernel]
            arguments = dict(node.arguments)
            for phase in kernel.phases:
                reads |= {a.buffer for a in (arguments.get(x.parameter) for x in phase.reads) if _names(a)}
                writes |= {a.buffer for a in (arguments.get(x.parameter) for x in phase.writes) if _names(a)}
            reads |= {a.buffer for a in arguments.values() if isinstance(a, ScalarLoad)}
            if kernel.roles is None:
                named = {a.buffer for a in arguments.values() if isinstance(a, BufferArgument)}
                reads, writes = reads | named, writes | named
        case MemcpyNode():
            reads, writes = {node.source.buffer}, {node.destination.buffer}
        case MemsetNode():
            writes = {node.destination.buffer}
        case HostCallbackNode():
            reads, writes = {v.buffer for v in node.reads}, {v.buffer for v in node.writes}
        case ChildGraphNode() | ConditionalNode():
            bodies = (node.body,) if isinstance(node, ChildGraphNode) else node.bodies
            for inner in (inner for body in bodies for inner in body):
                more = touched(inner, kernels)
                reads, writes = reads | more[0], writes | more[1]
            if isinstance(node, ConditionalNode):
                reads.add(node.condition)
    return reads, writes


def _names(argument: object) -> bool:
    return isinstance(argument, BufferArgument)


def chain(nodes: Sequence[Node]) -> list[Dependency]:
    return [Dependency(u.name, v.name) for u, v in pairwise(nodes)]


_ANYTHING = (HostCallbackNode, EventRecordNode, EventWaitNode, AllocNode, FreeNode)


def ordered(chooser: Random, graph: Graph) -> Graph:
    """A chain; or full dependencies for whatever shares memory; and some of those weakened."""
    kind = chooser.random()
    if kind < 0.3:
        return graph
    edges = list[Dependency]()
    tables = graph.allocations.values(), graph.buffers.values(), graph.kernels.values()
    kernels, buffers = dict(graph.kernels), graph.buffers
    homes = {}
    for name, node in graph.nodes.items():
        reads, writes = touched(node, kernels)
        for indexed in [buffers[b].index for b in (*reads, *writes)]:
            if indexed is not None:
                reads.add(indexed.table if isinstance(indexed, Paged) else indexed.offsets)
        homes[name] = [{(buffers[b].allocation) for b in found} for found in (reads, writes)]
    for u, v in combinations(graph.nodes, 2):
        first, second = homes[u], homes[v]
        anything = isinstance(graph.nodes[u], _ANYTHING) or isinstance(graph.nodes[v], _ANYTHING)
        if anything or first[1] & (second[0] | second[1]) or first[0] & second[1]:
            edges.append(Dependency(u, v))
    if kind > 0.6:
        edges = [_weak(chooser, graph, edge) for edge in edges]
    return Graph(graph.name, *tables, graph.nodes.values(), edges)


def _weak(chooser: Random, graph: Graph, edge: Dependency) -> Dependency:
    ends = graph.nodes[edge.source], graph.nodes[edge.target]
    if chooser.random() < 0.4 and all(isinstance(end, KernelNode) for end in ends):
        target = ends[1]
        assert isinstance(target, KernelNode)
        roles = graph.kernels[target.kernel].roles or ()
        if roles and all(isinstance(role.steps[0], Wait) for role in roles):
            return replace(edge, kind=DependencyKind.PROGRAMMATIC)
    return edge
