"""Invariants of what flows between nodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from forerun.ir.graph import Graph
from forerun.ir.nodes import AllocNode, ChildGraphNode, FreeNode
from forerun.ir.region import WHOLE
from forerun.ir.semantics.access import NodeAccess, accesses, with_tables
from forerun.ir.semantics.byteset import ByteSet, bytes_of
from forerun.ir.types import BufferRole
from forerun.support.diagnostics import Diagnostic, Location

__all__ = ["check"]


def check(graph: Graph) -> Iterator[Diagnostic]:
    """Yield violations of F1 to F3, F5 and F6 of a graph that is valid otherwise."""
    roles = {buffer.name: buffer.role for buffer in graph.buffers.values()}
    written: dict[str, dict[ByteSet, None]] = {}
    constant: dict[str, list[ByteSet]] = {}
    given: dict[str, list[ByteSet]] = {}
    for buffer in graph.buffers.values():
        if buffer.contents is not None:
            constant.setdefault(buffer.allocation, []).append(ByteSet(buffer.offset, buffer.stop))
        elif buffer.ascending:
            given.setdefault(buffer.allocation, []).append(ByteSet(buffer.offset, buffer.stop))
    for access in _of_data(graph):
        role, known = roles.get(access.buffer), written.setdefault(access.allocation, {})
        if access.write:
            known[access.bytes] = None
            # Which bytes a phase writes through a page table is unknown, but not that it writes some of the buffer.
            if role is BufferRole.WEIGHT and (access.certain or access.phase):
                yield Diagnostic("F1", f"writes %{access.buffer}, a weight", _at(access))
            elif access.allocation in constant and any(map(access.bytes.overlaps, constant[access.allocation])):
                hint = "copy it to a temporary, and give the kernel that; or declare a weight, and pass its value"
                yield Diagnostic("F5", f"may write %{access.buffer}, whose contents are declared", _at(access), hint)
            elif access.allocation in given and any(map(access.bytes.overlaps, given[access.allocation])):
                hint = "only the caller may write what ascends; let the node write another buffer"
                yield Diagnostic("F6", f"may write %{access.buffer}, bytes of what ascends", _at(access), hint)
        elif role is BufferRole.TEMP and access.certain and not _overlaps_any(access.bytes, known):
            yield Diagnostic("F2", f"reads %{access.buffer}, a temporary that nothing has written before", _at(access))
    for buffer in graph.buffers.values():
        reached = written.get(buffer.allocation, {})
        if buffer.role is BufferRole.OUTPUT and not _overlaps_any(bytes_of(buffer, WHOLE), reached):
            yield Diagnostic("F3", "is an output that no node writes", Location("buffer", buffer.name))


def _of_data(graph: Graph) -> Iterator[NodeAccess]:
    """All accesses to data, in launch order, of child graphs too: memory that was just allocated holds none."""
    for name, found in accesses(graph).items():
        node = graph.nodes[name]
        if isinstance(node, ChildGraphNode):
            inside = _of_data(with_tables(graph, node.body))
            yield from (replace(access, node=f"{name}/{access.node}") for access in inside)
        elif not isinstance(node, AllocNode | FreeNode):
            yield from found


def _at(access: NodeAccess) -> Location:
    return Location("node", access.node, detail=f"%{access.buffer}")


def _overlaps_any(reach: ByteSet, others: dict[ByteSet, None]) -> bool:
    return (reach in others and not reach.is_empty) or any(map(reach.overlaps, others))
