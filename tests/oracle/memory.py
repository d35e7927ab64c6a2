"""Memory of hashes: each byte is what was last written there, and regions are lists of bytes.

Nothing here knows of ``forerun.ir.semantics``: which bytes an access touches is enumerated, element by element, with
the scalars and page tables that lie in memory at that moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from itertools import count, product
from typing import Any

from forerun.ir.buffer import Buffer, Paged, Ragged
from forerun.ir.graph import Graph
from forerun.ir.region import Region
from forerun.ir.types import BufferRole

__all__ = ["Memory", "Where", "mixed", "number_in", "spelled"]

_MASK = (1 << 62) - 1
_FRESH = count()


@lru_cache(maxsize=65536)
def spelled(text: str) -> int:
    """A number for a text, the same in every process."""
    return int.from_bytes(blake2b(text.encode(), digest_size=7).digest(), "big")


def mixed(*parts: object) -> int:
    """A hash of numbers and tuples of them; never one of the 256 values that are plain bytes."""
    return hash(parts) & _MASK | 256


def number_in(values: Sequence[int], low: int, high: int) -> int:
    """The integer that some bytes hold, in a range: literal if all are plain bytes, and drawn by their hash if not."""
    if all(value < 256 for value in values):
        found = int.from_bytes(bytes(values), "little")
        return min(max(found, low), high)
    return low + hash(tuple(values)) % (high - low + 1)


@dataclass(frozen=True)
class Where:
    """Bytes of an allocation, in the order of the region that names them."""

    allocation: str
    at: tuple[int, ...]


@dataclass
class Memory:
    """The bytes of all allocations of a graph.

    Attributes:
        graph: Whose allocations and buffers these are.
        bytes: The values, by allocation.
        dead: Allocations that are not in use: before their allocation node, or after they were freed.
        misuses: How often such memory was written.
        known: What was worked out of the graph, such as the bytes of regions: memories of one graph may share it.
    """

    graph: Graph
    bytes: dict[str, list[int]] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    misuses: int = 0
    known: dict[Any, Any] = field(default_factory=dict)
    _kept: dict[str, set[int]] = field(default_factory=dict)

    def read(self, where: Where) -> tuple[int, ...]:
        """The values of some bytes; what is not in use is never twice the same."""
        if where.allocation in self.dead:
            return tuple(mixed(_MASK, next(_FRESH)) for _ in where.at)
        found = self.bytes[where.allocation]
        return tuple([found[i] for i in where.at])

    def write(self, where: Where, values: Iterable[int]) -> None:
        """Store values."""
        if where.allocation in self.dead:
            self.misuses += 1
        found = self.bytes[where.allocation]
        for i, value in zip(where.at, values, strict=True):
            found[i] = value

    def begin(self, replay: int, allocated: Iterable[str]) -> None:
        """What a replay finds: inputs of its own, and temporaries that hold anything."""
        graph = self.graph
        if not self._kept:
            for buffer in graph.buffers.values():
                if buffer.role not in (BufferRole.TEMP, BufferRole.INPUT, BufferRole.PARAM):
                    self._kept.setdefault(buffer.allocation, set()).update(range(buffer.offset, buffer.stop))
        for name, allocation in graph.allocations.items():
            key = spelled(name)
            present = self.bytes.get(name)
            stays = self._kept.get(name, ())
            self.bytes[name] = [
                (mixed(key, i) if present is None else present[i]) if i in stays else mixed(key, i, replay)
                for i in range(allocation.size)
            ]
        self.dead = set(allocated)

    def refresh(self, allocation: str, salt: int) -> None:
        """Memory that was just allocated holds anything."""
        key = spelled(allocation)
        self.bytes[allocation] = [mixed(key, i, salt, 7) for i in range(len(self.bytes[allocation]))]
        self.dead.discard(allocation)

    def snapshot(self, roles: Iterable[BufferRole]) -> tuple[int, ...]:
        """The bytes of all buffers of some roles that are in use."""
        chosen = set(roles)
        return tuple(
            value
            for buffer in self.graph.buffers.values()
            if buffer.role in chosen and buffer.allocation not in self.dead
            for value in self.bytes[buffer.allocation][buffer.offset : buffer.stop]
        )

    def where(self, buffer: Buffer, region: Region, values: Mapping[str, int]) -> tuple[Where, tuple[int, ...]]:
        """The bytes that an access touches now, and those of the index that it reads to find them."""
        if buffer.index is None:
            return self._plain(buffer, region, values), ()
        name = buffer.index.table if isinstance(buffer.index, Paged) else buffer.index.offsets
        table = self.graph.buffers[name]
        found = self.read(self._plain(table, Region(), {}))
        width = table.dtype.itemsize
        entries = [found[i : i + width] for i in range(0, len(found), width)]
        extent = buffer.shape[0]
        if isinstance(buffer.index, Ragged):
            rows = number_in(entries[-1], 0, extent)
            return self._plain(buffer, region, values, tuple(range(rows)), rows), found
        pages = tuple(number_in(entries[i % len(entries)], 0, extent - 1) for i in range(extent))
        return self._plain(buffer, region, values, pages, extent), found

    def symbols(self, region: Region) -> tuple[str, ...]:
        """The symbols of a region; the graph holds it, so its identity is its own."""
        if not region.slices:
            return ()
        known = self.known.get(id(region))
        if known is None:
            known = self.known[id(region)] = region.symbols, region
        found: tuple[str, ...] = known[0]
        return found

    def _plain(
        self,
        buffer: Buffer,
        region: Region,
        values: Mapping[str, int],
        rows: tuple[int, ...] | None = None,
        extent: int | None = None,
    ) -> Where:
        symbols = self.symbols(region)
        key = (buffer.name, region, tuple([values[s] for s in symbols]) if symbols else (), rows)
        known: Where | None = self.known.get(key)
        if known is None:
            known = self.known[key] = Where(buffer.allocation, _enumerated(buffer, region, values, rows, extent))
        return known


def _enumerated(
    buffer: Buffer, region: Region, values: Mapping[str, int], rows: tuple[int, ...] | None, extent: int | None
) -> tuple[int, ...]:
    """The bytes, element by element; a first dimension that is paged or ragged goes through a list of rows."""
    ranges = [range(n) for n in buffer.shape]
    if extent is not None:
        ranges[0] = range(extent)
    for axis, part in enumerate(region.slices):
        if part is not None:
            start, stop = part.start.evaluate(values), part.stop.evaluate(values)
            ranges[axis] = range(max(start, 0), min(stop, ranges[axis].stop))
    width, found = buffer.dtype.itemsize, list[int]()
    for index in product(*ranges):
        flat = 0
        for axis, (i, size) in enumerate(zip(index, buffer.shape, strict=True)):
            flat = flat * size + (rows[i] if rows is not None and axis == 0 else i)
        start = buffer.offset + flat * width
        found += range(start, start + width)
    return tuple(found)
