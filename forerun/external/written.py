"""The memory that a captured graph may write."""

from __future__ import annotations

from collections.abc import Iterator

from forerun.captured import MemoryRange
from forerun.frontends.captured import ImportedGraph

__all__ = ["written_memory"]


def written_memory(imported: ImportedGraph) -> Iterator[MemoryRange]:
    """Memory of the device in which a node may write: whole blocks, or allocations."""
    from forerun.ir.semantics import accesses

    buffers = imported.graph.buffers
    written = {access.buffer for found in accesses(imported.graph).values() for access in found if access.write}
    spans = [(buffers[name].offset, buffers[name].stop) for name in written]
    base = imported.captured.memory[0].address if imported.captured.memory else 0
    for memory in imported.captured.memory:
        begin, end = memory.address - base, memory.stop - base
        if memory.kind == "device" and any(start < end and begin < stop for start, stop in spans):
            yield memory
