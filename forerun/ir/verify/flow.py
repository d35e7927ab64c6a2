"""Invariants of what flows between nodes."""

from __future__ import annotations

from collections.abc import Iterator

from forerun.ir.diagnostics import Diagnostic, Location
from forerun.ir.graph import Graph
from forerun.ir.region import WHOLE
from forerun.ir.semantics.access import NodeAccess, accesses
from forerun.ir.semantics.byteset import ByteSet, bytes_of
from forerun.ir.types import BufferRole

__all__ = ["check"]


def check(graph: Graph) -> Iterator[Diagnostic]:
    """Yield violations of F1 to F3 of a graph that is valid otherwise."""
    roles = {buffer.name: buffer.role for buffer in graph.buffers.values()}
    written: dict[str, dict[tuple[int, int], ByteSet]] = {}
    for access in (access for found in accesses(graph).values() for access in found):
        role, known = roles.get(access.buffer), written.setdefault(access.allocation, {})
        if access.write:
            known[access.bytes.start, access.bytes.stop] = access.bytes
            if role is BufferRole.WEIGHT and access.certain:
                yield Diagnostic("F1", f"writes %{access.buffer}, a weight", _at(access))
        elif role is BufferRole.TEMP and access.certain and not _overlaps_any(access.bytes, known):
            yield Diagnostic("F2", f"reads %{access.buffer}, a temporary that nothing has written before", _at(access))
    for buffer in graph.buffers.values():
        reached = written.get(buffer.allocation, {})
        if buffer.role is BufferRole.OUTPUT and not _overlaps_any(bytes_of(buffer, WHOLE), reached):
            yield Diagnostic("F3", "is an output that no node writes", Location("buffer", buffer.name))


def _at(access: NodeAccess) -> Location:
    return Location("node", access.node, detail=f"%{access.buffer}")


def _overlaps_any(reach: ByteSet, others: dict[tuple[int, int], ByteSet]) -> bool:
    same = others.get((reach.start, reach.stop))
    return (same is not None and reach.overlaps(same)) or any(reach.overlaps(other) for other in others.values())
