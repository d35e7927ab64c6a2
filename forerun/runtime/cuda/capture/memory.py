"""What the pointers of a captured graph point into: the driver's allocations, refined by torch's own records."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from forerun.captured.graph import CapturedGraph, MemoryRange
from forerun.runtime.cuda.driver.driver import Driver

__all__ = ["memory_of", "refined", "torch_segments"]

_LEAST_ADDRESS = 1 << 16
"""No memory lies below; what is less is a number."""

_HOST = 1
_MOST_USER_ADDRESS = 1 << 57


def memory_of(driver: Driver, graph: CapturedGraph) -> tuple[MemoryRange, ...]:
    """The allocations that the parameters, copies and fills of a graph point into."""
    found: list[MemoryRange] = []
    seen: set[int] = set()
    for address in _addresses(graph):
        if address in seen or any(address in one for one in found[-8:]):
            continue
        seen.add(address)
        memory = _range(driver, address)
        if memory is not None and memory not in found:
            found.append(memory)
    return tuple(sorted(found, key=lambda memory: memory.address))


def _addresses(graph: CapturedGraph) -> Iterator[int]:
    for node in graph.nodes:
        if node.body is not None:
            yield from _addresses(node.body)
        if node.transfer is not None:
            yield node.transfer.destination
            if node.transfer.source is not None:
                yield node.transfer.source
        for _, _, value in node.pointers():
            if _LEAST_ADDRESS <= value < _MOST_USER_ADDRESS:
                yield value


def _range(driver: Driver, address: int) -> MemoryRange | None:
    """The allocation around an address, ``None`` if there is none that the driver knows."""
    kinds = driver.api.CUpointer_attribute
    get = driver.function("cuPointerGetAttribute")
    error, *kind = get(kinds.CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address)
    if error:
        return None
    error, *managed = get(kinds.CU_POINTER_ATTRIBUTE_IS_MANAGED, address)
    is_managed = not error and bool(managed[0])
    error, *found = driver.function("cuMemGetAddressRange")(address)
    if error:
        return MemoryRange(address, 1, "host")
    base, size = int(found[0]), int(found[1])
    what = "managed" if is_managed else "host" if int(kind[0]) == _HOST else "device"
    return MemoryRange(base, size, what)


def refined(memory: Iterable[MemoryRange], segments: Iterable[Any] | None = None) -> tuple[MemoryRange, ...]:
    """The ranges, with torch's blocks in place of its segments where blocks keep their place.

    A block that is in use, and not of a graph's private pool, is one tensor's storage for as long as the program keeps
    it. Private pools give the same bytes to several tensors while a graph is captured: their segments stay whole.

    Args:
        memory: The driver's ranges.
        segments: What ``torch.cuda.memory_snapshot()`` returns; by default it is asked if torch is loaded.
    """
    found = torch_segments() if segments is None else segments
    blocks: list[MemoryRange] = []
    for segment in found:
        if tuple(segment.get("segment_pool_id", (0, 0))) != (0, 0):
            continue
        for block in segment["blocks"]:
            if block["state"] == "active_allocated":
                blocks.append(MemoryRange(int(block["address"]), int(block["size"]), whole=False))
    blocks.sort(key=lambda block: block.address)
    refined: list[MemoryRange] = []
    for one in memory:
        inner = [block for block in blocks if block.address in one and block.stop <= one.stop]
        refined += _split(one, inner) if one.kind == "device" and inner else [one]
    return tuple(refined)


def _split(one: MemoryRange, blocks: list[MemoryRange]) -> Iterator[MemoryRange]:
    """The blocks, and what lies between them, which is nobody's."""
    at = one.address
    for block in blocks:
        if at < block.address:
            yield MemoryRange(at, block.address - at, "free", whole=False)
        yield block
        at = block.stop
    if at < one.stop:
        yield MemoryRange(at, one.stop - at, "free", whole=False)


def torch_segments() -> list[Any]:
    """The segments of torch's allocator with their blocks, as ``torch.cuda.memory_snapshot()``; none without torch."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return []
    snapshot: list[Any] = torch.cuda.memory_snapshot()
    return snapshot
