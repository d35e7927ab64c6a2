"""Invariants of allocations and buffers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from forerun.ir.buffer import Buffer, Paged
from forerun.ir.contents import integers_of
from forerun.ir.graph import Graph
from forerun.ir.types import BufferRole
from forerun.support.diagnostics import Diagnostic, Location, did_you_mean

__all__ = ["check"]

MAX_CONTENTS = 1 << 16
"""Bytes that a graph may say of one buffer."""

_MAY_ALIAS = {BufferRole.TEMP, BufferRole.WEIGHT, BufferRole.STATE, BufferRole.INPUT}
_GIVEN = {BufferRole.INPUT, BufferRole.PARAM, BufferRole.WEIGHT}


def check(graph: Graph) -> Iterator[Diagnostic]:
    """Yield violations of M1 to M10 (and G1 for their names)."""
    for name, allocation in graph.allocations.items():
        if not name:
            yield Diagnostic("G1", "an allocation has no name", Location("allocation", name))
        if allocation.size < 1:
            yield Diagnostic("M1", f"has {allocation.size} bytes", Location("allocation", name))
    for name, buffer in graph.buffers.items():
        if not name:
            yield Diagnostic("G1", "a buffer has no name", Location("buffer", name))
        yield from _view(graph, buffer)
        yield from _index(graph, buffer)
        yield from _bounds(buffer)
        yield from _contents(buffer)
        yield from _ascent(buffer)
    yield from _overlaps(graph)


def _view(graph: Graph, buffer: Buffer) -> Iterator[Diagnostic]:
    at = Location("buffer", buffer.name)
    if not all(isinstance(extent, int) and extent > 0 for extent in buffer.shape):
        yield Diagnostic("M5", f"has shape {list(buffer.shape)}, but extents must be positive", at)
        return
    allocation = graph.allocations.get(buffer.allocation)
    if allocation is None:
        hint = did_you_mean(buffer.allocation, graph.allocations, sigil="$")
        yield Diagnostic("M2", f"no allocation '{buffer.allocation}'", at, hint)
        return
    if buffer.offset < 0 or buffer.stop > allocation.size:
        inside = f"allocation '{allocation.name}' of {allocation.size} bytes"
        message = f"bytes {buffer.offset} to {buffer.stop} are outside {inside}"
        yield Diagnostic("M3", message, at)
    if buffer.offset % buffer.dtype.itemsize:
        message = f"byte offset {buffer.offset} is not a multiple of the element size {buffer.dtype.itemsize}"
        yield Diagnostic("M4", message, at)


def _index(graph: Graph, buffer: Buffer) -> Iterator[Diagnostic]:
    if buffer.index is None:
        return
    at = Location("buffer", buffer.name)
    name = buffer.index_buffer
    index = graph.buffers.get(name)
    what = "page table" if isinstance(buffer.index, Paged) else "index pointer"
    if index is None:
        yield Diagnostic("M7", f"no buffer '{name}' ({what})", at, did_you_mean(name, graph.buffers, sigil="%"))
    elif index.dtype.is_float or index.index is not None:
        yield Diagnostic("M7", f"{what} '{name}' must be a plain integer buffer", at)
    if isinstance(buffer.index, Paged) and buffer.index.page_size < 1:
        yield Diagnostic("M7", f"pages have {buffer.index.page_size} rows", at)


def _bounds(buffer: Buffer) -> Iterator[Diagnostic]:
    if buffer.bounds is None:
        return
    at = Location("buffer", buffer.name)
    low, high = buffer.bounds
    if buffer.dtype.is_float:
        yield Diagnostic("M8", f"bounds {low}..{high} on a buffer of {buffer.dtype}", at)
        return
    least, greatest = buffer.dtype.range
    if low > high:
        yield Diagnostic("M8", f"bounds {low}..{high} are empty", at)
    elif low < least or high > greatest:
        yield Diagnostic("M8", f"bounds {low}..{high} do not fit {buffer.dtype}", at)


def _contents(buffer: Buffer) -> Iterator[Diagnostic]:
    contents = buffer.contents
    if contents is None:
        return
    at = Location("buffer", buffer.name)
    if buffer.role is not BufferRole.WEIGHT or buffer.index is not None:
        yield Diagnostic(
            "M9", "has contents, but is not a plain weight", at, "only weights are the same in all replays"
        )
    if len(contents) != buffer.size:
        yield Diagnostic("M9", f"has {buffer.size} bytes, but contents of {len(contents)}", at)
    elif len(contents) > MAX_CONTENTS:
        hint = "contents are for launch parameters; give values of weights to compile()"
        yield Diagnostic("M9", f"has contents of more than {MAX_CONTENTS} bytes", at, hint)
    elif buffer.bounds is not None and not buffer.dtype.is_float:
        low, high = buffer.bounds
        wrong = next((v for v in integers_of(buffer.dtype, contents) if not low <= v <= high), None)
        if wrong is not None:
            yield Diagnostic("M9", f"holds {wrong}, which is out of its bounds {low}..{high}", at)


def _ascent(buffer: Buffer) -> Iterator[Diagnostic]:
    if not buffer.ascending:
        return
    at = Location("buffer", buffer.name)
    if buffer.dtype.is_float or buffer.index is not None:
        yield Diagnostic("M10", "ascends, but is not a plain integer buffer", at)
    elif buffer.role not in _GIVEN:
        hint = "only the caller can promise it: of inputs, parameters and weights"
        yield Diagnostic("M10", f"ascends, but is {buffer.role}", at, hint)
    elif buffer.contents is not None:
        values = integers_of(buffer.dtype, buffer.contents)
        wrong = next(((a, b) for a, b in pairwise(values) if b < a), None)
        if wrong is not None:
            yield Diagnostic("M10", f"ascends, but holds {wrong[1]} behind {wrong[0]}", at)


def _overlaps(graph: Graph) -> Iterator[Diagnostic]:
    """Sort the views of each allocation by offset; compare each with those that have not ended."""
    views: dict[str, list[Buffer]] = {}
    for buffer in graph.buffers.values():
        views.setdefault(buffer.allocation, []).append(buffer)
    for group in views.values():
        if len(group) == 1 or all(view.role is BufferRole.TEMP for view in group):
            continue
        open_views: list[Buffer] = []
        for view in sorted(group, key=lambda b: b.offset):
            open_views = [other for other in open_views if other.stop > view.offset]
            for other in open_views:
                if view.contents is not None or other.contents is not None:
                    message = f"overlaps %{other.name}, but contents that are declared are nobody else's"
                    yield Diagnostic("M9", message, Location("buffer", view.name))
                elif view.role is not other.role or view.role not in _MAY_ALIAS:
                    message = f"overlaps %{other.name}: {view.role} and {other.role} must not share bytes"
                    yield Diagnostic("M6", message, Location("buffer", view.name))
            open_views.append(view)
