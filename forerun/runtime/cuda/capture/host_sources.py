"""What small copies of a captured graph bring from the host: recorded when the graph is read, and compared later."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path

from forerun.captured.graph import CapturedGraph, CapturedNode
from forerun.runtime.cuda.driver.driver import Driver

__all__ = ["MOST_BYTES", "changed_sources", "host_sources"]

MOST_BYTES = 4096
"""What a copy may bring to be recorded: launch parameters, not inputs. It is what kernels take by value, too."""

_HOST = 1
_OWN_MEMORY = Path("/proc/self/mem")


def host_sources(driver: Driver, graph: CapturedGraph) -> Mapping[int, bytes]:
    """The bytes that small copies from the host read now, by the number of the node.

    Sources may have been freed since they were captured. Memory that the driver gave out is there as long as it says
    so; all other memory is read through the system, which tells where there is none.
    """
    found = {number: _read(driver, node) for number, node in enumerate(graph.nodes)}
    return {number: data for number, data in found.items() if data is not None}


def changed_sources(driver: Driver, graph: CapturedGraph, recorded: Mapping[int, bytes]) -> tuple[int, ...]:
    """The nodes whose source does not hold any more what was recorded, or is gone."""
    return tuple(number for number, data in recorded.items() if _read(driver, graph.nodes[number]) != data)


def _read(driver: Driver, node: CapturedNode) -> bytes | None:
    transfer = node.transfer
    if transfer is None or transfer.source is None or not transfer.is_contiguous:
        return None
    size = transfer.width * transfer.rows
    if not 0 < size <= MOST_BYTES:
        return None
    kinds = driver.api.CUpointer_attribute
    error, *kind = driver.function("cuPointerGetAttribute")(kinds.CU_POINTER_ATTRIBUTE_MEMORY_TYPE, transfer.source)
    if error:
        return _read_through_system(transfer.source, size)
    return ctypes.string_at(transfer.source, size) if int(kind[0]) == _HOST else None


def _read_through_system(address: int, size: int) -> bytes | None:
    """Memory of this process; ``None`` where there is none, or the system does not let it be read that way."""
    try:
        with _OWN_MEMORY.open("rb", buffering=0) as memory:
            memory.seek(address)
            data = memory.read(size)
    except (OSError, ValueError, OverflowError):
        return None
    return data if len(data) == size else None
