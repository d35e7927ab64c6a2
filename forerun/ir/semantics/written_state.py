"""Which bytes of state one replay may write: what has to be copied so that a replay can be undone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TypeAlias

from forerun.ir.buffer import Buffer
from forerun.ir.graph import Graph
from forerun.ir.semantics.access import accesses
from forerun.ir.semantics.ascending import ASCENDING
from forerun.ir.semantics.binding import NodeAccess
from forerun.ir.semantics.byteset import ByteSet
from forerun.ir.types import BufferRole

__all__ = ["LoadedElement", "WrittenRange", "written_state"]

_MAX_RUNS = 4096
"""Into how many runs a strided write is split; with more, all between its first and its last byte counts as written."""

_Intervals: TypeAlias = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class LoadedElement:
    """An integer in memory, which nodes load as a scalar.

    Attributes:
        buffer: Where it lies.
        index: Which element of the buffer it is, counted as if that had one dimension.
        stride: How many bytes further on the range begins for each one of its value.
    """

    buffer: str
    index: int
    stride: int


@dataclass(frozen=True, slots=True)
class WrittenRange:
    """Some bytes that a replay may write, and that hold state.

    Attributes:
        allocation: What they are part of.
        start: Where they begin in it; with an element, for its value 0.
        size: How many bytes they are.
        element: What moves them; ``None`` if they are the same in every replay. Its value at the beginning of a
            replay counts: no node writes it before the write that depends on it.
        bounds: The bytes between which they must lie; a range that does not is not written at all.
    """

    allocation: str
    start: int
    size: int
    element: LoadedElement | None
    bounds: tuple[int, int]


def written_state(graph: Graph) -> tuple[WrittenRange, ...]:
    """The bytes of state that a replay of a valid graph may write, each once where that is known.

    A row whose number is loaded from memory is that row alone, if no node of the graph writes the number before. Where
    bytes are not known so well (black boxes, bodies of conditionals that load scalars, paged buffers, regions with two
    loaded ends), everything counts that the node may reach.
    """
    state = _state_bytes(graph)
    if not state:
        return ()
    fixed: dict[str, _Intervals] = {name: [] for name in state}
    moving: dict[WrittenRange, None] = {}
    for found in accesses(graph).values():
        for access in found:
            if not access.write or access.allocation not in state or access.bytes.is_empty:
                continue
            ranges = _moving_ranges(graph, access)
            if ranges is not None:
                moving.update(dict.fromkeys(ranges))
            else:
                fixed[access.allocation] += _cut(_fixed_bytes(graph, access), state[access.allocation])
    whole = {name: _union(intervals) for name, intervals in fixed.items()}
    constant = [WrittenRange(n, a, b - a, None, (a, b)) for n, intervals in whole.items() for a, b in intervals]
    return (*constant, *(r for r in moving if not _is_inside(r.bounds, whole[r.allocation])))


def _state_bytes(graph: Graph) -> Mapping[str, _Intervals]:
    found: dict[str, _Intervals] = {}
    for buffer in graph.buffers.values():
        if buffer.role is BufferRole.STATE and buffer.size:
            found.setdefault(buffer.allocation, []).append((buffer.offset, buffer.stop))
    return {name: _union(intervals) for name, intervals in found.items()}


def _moving_ranges(graph: Graph, access: NodeAccess) -> list[WrittenRange] | None:
    """The runs of a write to state that one element moves; ``None`` for other writes."""
    buffer, reach = graph.buffers.get(access.buffer), access.bytes
    if buffer is None or buffer.role is not BufferRole.STATE or not reach.exact:
        return None
    if len(reach.start_terms) != 1 or reach.start_terms != reach.stop_terms:
        return None
    (symbol, stride), *_ = reach.start_terms
    element = _element(graph, symbol, stride)
    runs = _runs(reach)
    if element is None or runs is None:
        return None
    bounds = buffer.offset, buffer.stop
    return [WrittenRange(access.allocation, start, size, element, bounds) for start, size in runs]


def _element(graph: Graph, symbol: str, stride: int) -> LoadedElement | None:
    """What a symbol of :func:`~forerun.ir.semantics.binding.symbol_values` stands for, if no node writes it before."""
    symbol = symbol.removesuffix(ASCENDING)
    name, _, index = symbol.removeprefix("%").rpartition("[")
    if "@" in symbol or name not in graph.buffers:
        return None
    return LoadedElement(name, int(index.removesuffix("]")), stride)


def _runs(reach: ByteSet) -> list[tuple[int, int]] | None:
    """The contiguous runs of a set whose hull starts at a constant and terms; ``None`` if they are too many."""
    if not reach.levels:
        return [(reach.start, reach.stop - reach.start)]
    if prod(count for count, _ in reach.levels) > _MAX_RUNS:
        return None
    steps = [[number * stride for number in range(count)] for count, stride in reach.levels]
    return [(reach.start + sum(chosen), reach.run) for chosen in product(*steps)]


def _fixed_bytes(graph: Graph, access: NodeAccess) -> _Intervals:
    """The bytes that a write may reach, whatever was loaded."""
    reach = access.bytes
    if reach.is_constant:
        runs = _runs(reach) if reach.exact else None
        return [(reach.start, reach.stop)] if runs is None else [(start, start + size) for start, size in runs]
    buffer: Buffer | None = graph.buffers.get(access.buffer)
    return [(0, graph.allocations[access.allocation].size) if buffer is None else (buffer.offset, buffer.stop)]


def _union(intervals: Iterable[tuple[int, int]]) -> _Intervals:
    """The same bytes as intervals that neither overlap nor touch, in order."""
    found: _Intervals = []
    for start, stop in sorted(intervals):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(stop, found[-1][1])
        else:
            found.append((start, stop))
    return found


def _cut(intervals: Sequence[tuple[int, int]], within: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for start, stop in intervals:
        for low, high in within:
            if max(start, low) < min(stop, high):
                yield max(start, low), min(stop, high)


def _is_inside(bounds: tuple[int, int], intervals: Sequence[tuple[int, int]]) -> bool:
    return any(start <= bounds[0] and bounds[1] <= stop for start, stop in intervals)
