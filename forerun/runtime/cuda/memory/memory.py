"""The memory of a program: a few blocks on the device and one on the host, and the address of every buffer."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from forerun.ir.buffer import ALLOCATION_ALIGNMENT, Allocation, Buffer
from forerun.ir.graph import Graph
from forerun.ir.semantics.alignment import needed_alignments
from forerun.ir.types import BufferRole
from forerun.runtime.cuda.driver.errors import CudaError
from forerun.runtime.cuda.driver.scope import Scope
from forerun.runtime.cuda.memory.external import ExternalArray
from forerun.support.diagnostics import InvalidInput, Unsupported

__all__ = ["ALIGNMENT", "POISON", "Block", "Memory", "readable_size"]

ALIGNMENT = ALLOCATION_ALIGNMENT
"""Allocations begin at multiples of this, as those of ``cuMemAlloc`` do."""

POISON = 0xFF
"""What bytes hold that nobody wrote: NaN in every floating point type, -1 in signed integers."""


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of memory that came from the driver at once."""

    address: int
    size: int


class Memory:
    """Where everything is.

    Allocations share blocks by what they hold: one block for state, one for what lives within a replay, one for
    weights, one (pinned) for what the graph keeps on the host. Memory of the caller stands where it is.

    ``bound`` are the caller's arrays, by buffer; ``kept`` takes the owners of weights that are used in place;
    ``size_bytes`` is what came from the driver.

    Raises:
        InvalidInput: If an array of the caller's cannot stand for its buffer.
        Unsupported: If the graph needs another device.
        CudaError: If there is not enough memory.
    """

    def __init__(self, scope: Scope, graph: Graph, bound: Mapping[str, ExternalArray], kept: list[Any]) -> None:
        self._scope = scope
        self._graph = graph
        self.size_bytes = 0
        self._places: dict[str, int] = {}
        self._kept = kept
        self._views = views = _views(graph)
        self._needed = needed_alignments(graph)
        self._bound = bound
        self._bind(bound)
        groups = self._group(views)
        self.host = self._lay_out(groups["host"], "what the graph keeps on the host", pinned=True)
        self.state = self._lay_out(groups["state"], "state")
        self.transient = self._lay_out(groups["transient"], "inputs, outputs and temporaries")
        self._shared: dict[str, int] = {}
        self._weights_left = groups["weight"]
        self._weight_block: Block | None = None
        self._weight_end = 0

    def address(self, buffer: str) -> int:
        """The address of a buffer's first element."""
        if buffer in self._shared:
            return self._shared[buffer]
        found = self._graph.buffers[buffer]
        return self._places[found.allocation] + found.offset

    def allocation_address(self, allocation: str) -> int:
        """The address of an allocation's first byte."""
        return self._places[allocation]

    def addresses(self) -> dict[str, int]:
        """The address of each buffer, by name."""
        places, shared = self._places, self._shared
        return {
            name: shared[name] if name in shared else places[buffer.allocation] + buffer.offset
            for name, buffer in self._graph.buffers.items()
        }

    def is_on_host(self, buffer: str) -> bool:
        """Whether the graph keeps a buffer in the host's memory."""
        return self._graph.allocations[self._graph.buffers[buffer].allocation].place.kind == "host"

    def share(self, places: Mapping[str, int]) -> None:
        """Use constants where they are, by buffer; before any weight is placed. Allocations of nothing else are not."""
        self._shared = dict(places)
        self._weights_left = [
            one for one in self._weights_left if any(view.name not in places for view in self._views[one.name])
        ]

    def place_weight(self, buffer: Buffer) -> int:
        """The address of a weight that is to be uploaded; its allocation is placed with the first of its buffers.

        Weights are placed one by one, because they come one by one: those that are on the device already take no room.
        """
        if buffer.allocation not in self._places:
            self._place_allocation(self._graph.allocations[buffer.allocation])
        return self.address(buffer.name)

    def adopt_weight(self, buffer: Buffer, array: ExternalArray) -> bool:
        """Use a weight where it is, if it fills an allocation that is not placed yet, and is aligned as is needed."""
        allocation = self._graph.allocations[buffer.allocation]
        alone = len(self._views[allocation.name]) == 1 and buffer.size == allocation.size
        misaligned = array.address % self._needed.get(allocation.name, 1) != 0
        if not alone or misaligned or allocation.name in self._places:
            return False
        _require_disjoint({**self._bound, buffer.name: array})
        self._places[allocation.name] = array.address
        self._kept.append(array)
        return True

    def zero_state(self, stream: Any, *, bound: bool) -> None:
        """Set all state to zeros, with ``bound`` also what the caller brought, in the order of a stream.

        State on the host is set at once, so nothing may be in flight.
        """
        if self.state is not None:
            self._fill(self.state, 0, stream)
        for buffer in self._graph.buffers.values():
            if buffer.role is BufferRole.STATE and not self._in(self.state, buffer):
                block = Block(self.address(buffer.name), buffer.size)
                if self._in(self.host, buffer):
                    ctypes.memset(block.address, 0, block.size)
                elif bound or self._in(self.transient, buffer):
                    self._fill(block, 0, stream)

    def poison(self, stream: Any) -> None:
        """Spoil what lives within one replay, in the order of a stream; at once on the host."""
        if self.transient is not None:
            self._fill(self.transient, POISON, stream)
        if self.host is not None:
            ctypes.memset(self.host.address, POISON, self.host.size)

    def _fill(self, block: Block, value: int, stream: Any) -> None:
        self._scope.driver.call("cuMemsetD8Async", block.address, value, block.size, stream)

    def _in(self, block: Block | None, buffer: Buffer) -> bool:
        return block is not None and 0 <= self.address(buffer.name) - block.address < block.size

    def _bind(self, bound: Mapping[str, ExternalArray]) -> None:
        for name, array in bound.items():
            buffer = self._graph.buffers[name]
            allocation = self._graph.allocations[buffer.allocation]
            if buffer.offset or buffer.size != allocation.size:
                message = f"memory '%{name}' is a part of allocation '${allocation.name}'; only whole ones can be bound"
                raise InvalidInput(message)
            if allocation.place.kind == "host":
                raise InvalidInput(f"memory '%{name}' is on the host", hint="pass its value as an input")
            if allocation.name in self._places:
                raise InvalidInput(f"memory '%{name}': its allocation '${allocation.name}' is bound twice")
            self._places[allocation.name] = array.address
        _require_disjoint(bound)

    def _group(self, views: Mapping[str, list[Buffer]]) -> dict[str, list[Allocation]]:
        groups: dict[str, list[Allocation]] = {"host": [], "state": [], "transient": [], "weight": []}
        for allocation in self._graph.allocations.values():
            if allocation.name in self._places:
                continue
            if allocation.place.kind == "device" and allocation.place.index != 0:
                message = f"allocation '${allocation.name}' is on {allocation.place}"
                raise Unsupported(f"{message}; target 'cuda' runs a graph on one device")
            groups[_group_of(allocation, views[allocation.name])].append(allocation)
        return groups

    def _lay_out(self, allocations: Iterable[Allocation], what: str, *, pinned: bool = False) -> Block | None:
        offsets, end = _offsets(allocations)
        if end == 0:
            return None
        block = self.allocate(end, what, pinned=pinned)
        self._places.update((name, block.address + offset) for name, offset in offsets.items())
        return block

    def allocate(self, size: int, what: str, *, pinned: bool = False) -> Block:
        """Ask the driver for memory; the scope owns it.

        Raises:
            CudaError: If there is not enough; it says what was asked for, and what is free.
        """
        driver = self._scope.driver
        try:
            if pinned:
                made = self._scope.own("pinned", driver.call("cuMemHostAlloc", size, 0), "cuMemFreeHost")
            else:
                made = self._scope.own("memory", driver.call("cuMemAlloc", size), "cuMemFree")
        except CudaError as error:
            if error.is_out_of_memory:
                raise error.about(detail=self._shortage(size, what)) from error
            raise
        self.size_bytes += size
        return Block(int(made), size)

    def _shortage(self, size: int, what: str) -> str:
        asked = f"{readable_size(size)} were asked for {what}"
        try:
            free, total = self._scope.driver.call("cuMemGetInfo")
        except CudaError:
            return asked
        return f"{asked}; {readable_size(free)} of {readable_size(total)} are free"

    def _place_allocation(self, allocation: Allocation) -> None:
        block = self._weight_block
        if block is None:
            # The first that must be uploaded: room for it and all that may come.
            _, end = _offsets(a for a in self._weights_left if a.name not in self._places)
            block = self._weight_block = self.allocate(end, "weights")
        self._places[allocation.name] = block.address + self._weight_end
        self._weight_end += _aligned(allocation.size)


def readable_size(size: int) -> str:
    """Bytes for people.

    Example:
        >>> readable_size(2_471_600_000)
        '2.47 GB'
    """
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= limit:
            return f"{size / limit:.3g} {unit}"
    return f"{size} bytes"


def _views(graph: Graph) -> dict[str, list[Buffer]]:
    views: dict[str, list[Buffer]] = {name: [] for name in graph.allocations}
    for buffer in graph.buffers.values():
        views[buffer.allocation].append(buffer)
    return views


def _group_of(allocation: Allocation, views: list[Buffer]) -> str:
    roles = {view.role for view in views}
    if allocation.place.kind == "host":
        return "host"
    if roles == {BufferRole.WEIGHT}:
        return "weight"
    return "state" if roles == {BufferRole.STATE} else "transient"


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _offsets(allocations: Iterable[Allocation]) -> tuple[dict[str, int], int]:
    offsets, end = {}, 0
    for allocation in allocations:
        offsets[allocation.name] = end
        end += _aligned(allocation.size)
    return offsets, end


def _require_disjoint(bound: Mapping[str, ExternalArray]) -> None:
    """The proof of the graph holds for buffers that do not share bytes."""
    ordered = sorted(bound, key=lambda name: bound[name].address)
    for first, second in pairwise(ordered):
        if bound[first].address + bound[first].size > bound[second].address:
            message = f"memory '%{first}' and '%{second}' overlap; the graph was proved for buffers that do not"
            raise InvalidInput(message)
