"""What each node of a graph reads and writes, in bytes of allocations, and whether before or after its wait."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import accumulate
from typing import assert_never

from forerun.ir import nodes
from forerun.ir.analysis import Analysis
from forerun.ir.graph import Graph
from forerun.ir.kernel import Wait
from forerun.ir.region import BufferView
from forerun.ir.semantics.binding import READ, WRITE, Binder, NodeAccess, Versions, element_bytes, touch
from forerun.ir.semantics.byteset import ByteSet, bytes_of
from forerun.support.collection import collection_paused

__all__ = ["HOST_EFFECTS", "NodeAccess", "accesses", "always_waits", "is_event", "with_tables", "written_scalars"]

HOST_EFFECTS = "host side effects"
"""A name for what host calls do besides their declared accesses: two of them without an order are a race."""


def _all_accesses(graph: Graph) -> Mapping[str, tuple[NodeAccess, ...]]:
    binder = Binder(graph, written_scalars(graph))
    with collection_paused():
        return {
            name: tuple(binder.accesses(node) if isinstance(node, nodes.KernelNode) else _of_other(graph, node))
            for name, node in graph.nodes.items()
        }


accesses = Analysis({"nodes", "kernels", "buffers", "allocations"}, _all_accesses)
"""The accesses of every node, by node name, in launch order.

Names that are not declared yield no access: the verifier reports those.
"""


def is_event(node: nodes.Node) -> bool:
    """Whether a node is tied to the world outside the graph, so that nothing may move across it.

    A host call may do anything that the device's work can see or be seen by (tell a scheduler that the output is there,
    say), unless it declares that it is pure.
    """
    match node:
        case nodes.ChildGraphNode():
            return any(is_event(inner) for inner in node.body)
        case nodes.HostCallbackNode():
            return not node.pure
        case nodes.EventRecordNode() | nodes.EventWaitNode():
            return True
        case nodes.KernelNode() | nodes.MemcpyNode() | nodes.MemsetNode() | nodes.ConditionalNode():
            return False
        case nodes.EmptyNode() | nodes.AllocNode() | nodes.FreeNode():
            return False
        case _:
            assert_never(node)


def always_waits(graph: Graph, node: nodes.Node) -> bool:
    """H4: whether some thread of the node always executes a wait, so that its completion comes after its W."""
    kernel = graph.kernels.get(node.kernel) if isinstance(node, nodes.KernelNode) else None
    return kernel is not None and kernel.has(Wait)


# Other nodes


def _of_other(graph: Graph, node: nodes.Node) -> Iterator[NodeAccess]:
    match node:
        case nodes.MemcpyNode():
            yield from _view(graph, node.name, node.source, False)
            yield from _view(graph, node.name, node.destination, True)
        case nodes.MemsetNode():
            yield from _view(graph, node.name, node.destination, True)
        case nodes.HostCallbackNode():
            for view in node.reads:
                yield from _view(graph, node.name, view, False)
            for view in node.writes:
                yield from _view(graph, node.name, view, True)
            if not node.pure:
                yield NodeAccess(node.name, HOST_EFFECTS, HOST_EFFECTS, ByteSet(0, 1), True)
        case nodes.AllocNode() | nodes.FreeNode():
            allocation = graph.allocations.get(node.allocation)
            if allocation is not None:
                yield NodeAccess(node.name, allocation.name, allocation.name, ByteSet(0, allocation.size), True)
        case nodes.ChildGraphNode():
            yield from _of_body(graph, node.name, node.body)
        case nodes.ConditionalNode():
            yield from _view(graph, node.name, BufferView(node.condition), False)
            for body in node.bodies:
                yield from (replace(access, always=False) for access in _of_body(graph, node.name, body))
        case nodes.KernelNode() | nodes.EmptyNode() | nodes.EventRecordNode() | nodes.EventWaitNode():
            pass  # the accesses of kernels depend on what is bound; see the binder
        case _:
            assert_never(node)


def _view(graph: Graph, node: str, view: BufferView, write: bool) -> list[NodeAccess]:
    buffer = graph.buffers.get(view.buffer)
    if buffer is None:
        return []
    return touch(graph, node, buffer, bytes_of(buffer, view.region), WRITE if write else READ)


def _of_body(graph: Graph, owner: str, body: Graph) -> Iterator[NodeAccess]:
    """The accesses of a nested graph, as accesses of the node that owns it; loaded scalars may change in between."""
    inner = with_tables(graph, body)
    for found in accesses(inner).values():
        for access in found:
            constant = access.bytes.is_constant
            size = graph.allocations[access.allocation].size if access.allocation in graph.allocations else 1
            reach = access.bytes if constant else ByteSet(0, size, exact=False)
            certain = access.certain and constant
            yield NodeAccess(
                owner, access.allocation, access.buffer, reach, access.write, certain=certain, always=access.always
            )


def with_tables(graph: Graph, body: Graph) -> Graph:
    """A nested graph with the tables of the graph that encloses it; the same one at each call, so analyses are kept."""
    known = _with_tables(graph)
    if id(body) not in known:
        known[id(body)] = body, body.with_tables_of(graph)
    return known[id(body)][1]


_with_tables: Analysis[dict[int, tuple[Graph, Graph]]] = Analysis({"kernels", "buffers", "allocations"}, lambda _: {})
"""Bodies by identity, as they were given and with tables: filled in as they are asked for."""


def written_scalars(graph: Graph) -> Versions:
    """The elements that some kernel loads as a scalar and some node of the graph may write, with their versions."""
    loads: dict[str, set[tuple[str, int]]] = {}
    for node in graph:
        for argument in _scalar_loads(node):
            if argument.buffer in graph.buffers:
                allocation = graph.buffers[argument.buffer].allocation
                loads.setdefault(allocation, set()).add((argument.buffer, argument.index))
    if not loads:
        return {}
    written: dict[tuple[str, int], Mapping[str, int]] = {}
    writes_of = _writes_into(graph, set(loads))
    for allocation, found in loads.items():
        for name, index in found:
            element = element_bytes(graph.buffers[name], index)
            writers = {node for node, write in writes_of[allocation] if write.overlaps(element)}
            if writers:
                written[name, index] = _versions(graph, writers)
    return written


def _scalar_loads(node: nodes.Node) -> list[nodes.ScalarLoad]:
    arguments = node.arguments if isinstance(node, nodes.KernelNode) else ()
    return [argument for _, argument in arguments if isinstance(argument, nodes.ScalarLoad)]


def _versions(graph: Graph, writers: set[str]) -> Mapping[str, int]:
    """For each node but the writers, how many of these come before it."""
    before = accumulate((int(name in writers) for name in graph.nodes), initial=0)
    return {name: count for name, count in zip(graph.nodes, before, strict=False) if name not in writers}


def _writes_into(graph: Graph, allocations: set[str]) -> Mapping[str, list[tuple[str, ByteSet]]]:
    """Writes into a few allocations, with every loaded scalar taken as unknown (so nothing is assumed of it)."""
    unknown: Versions = {(a.buffer, a.index): {} for node in graph for a in _scalar_loads(node)}
    found: dict[str, list[tuple[str, ByteSet]]] = {name: [] for name in allocations}
    binder = Binder(graph, unknown)
    views = {buffer.name for buffer in graph.buffers.values() if buffer.allocation in allocations}
    for node in graph:
        if _may_touch(node, views):
            for access in binder.accesses(node) if isinstance(node, nodes.KernelNode) else _of_other(graph, node):
                if access.write and access.allocation in found:
                    found[access.allocation].append((node.name, access.bytes))
    return found


def _may_touch(node: nodes.Node, views: set[str]) -> bool:
    if not isinstance(node, nodes.KernelNode):
        return True
    return any(isinstance(a, nodes.BufferArgument) and a.buffer in views for _, a in node.arguments)
