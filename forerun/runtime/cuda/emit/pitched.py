"""Boxes of buffers as the driver's copies and fills see them: rows of bytes at a pitch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from forerun.ir.buffer import Buffer
from forerun.ir.region import Region
from forerun.support.diagnostics import Unsupported

__all__ = ["Rows", "matched", "rows_of"]


@dataclass(frozen=True, slots=True)
class Rows:
    """Equal rows of bytes, at equal distances.

    The first begins at ``offset`` bytes in the buffer; ``pitch`` bytes are from one row's begin to the next one's.
    """

    offset: int
    count: int
    width: int
    pitch: int

    @property
    def size(self) -> int:
        """Bytes of all rows."""
        return self.count * self.width

    def as_one(self) -> Rows:
        """The same bytes as one row, if they are contiguous."""
        return Rows(self.offset, 1, self.size, self.size) if self.pitch == self.width or self.count == 1 else self


def rows_of(buffer: Buffer, region: Region, node: str) -> Rows:
    """A constant region of a buffer.

    Raises:
        Unsupported: If it is not two-dimensional after joining what is contiguous.
    """
    itemsize = buffer.dtype.itemsize
    offset, axes, stride = 0, [], itemsize
    for axis in reversed(range(len(buffer.shape))):
        bounds = region.slices[axis] if axis < len(region.slices) else None
        start = 0 if bounds is None else bounds.start.constant
        extent = buffer.shape[axis] if bounds is None else max(0, bounds.stop.constant - start)
        offset += start * stride
        axes.append((extent, stride))
        stride *= buffer.shape[axis]
    if math.prod(extent for extent, _ in axes) == 0:
        return Rows(offset, 0, 0, 0)
    width, pitches = _joined(axes, itemsize)
    if len(pitches) > 1:
        message = f"node '{node}': %{buffer.name}{region} is neither contiguous nor rows at one distance"
        raise Unsupported(message, hint="copy or fill it in parts, or with a kernel")
    count, pitch = pitches[0] if pitches else (1, width)
    return Rows(offset, count, width, pitch)


def _joined(axes: list[tuple[int, int]], itemsize: int) -> tuple[int, list[tuple[int, int]]]:
    """Bytes of the innermost contiguous run, and ``(extent, stride)`` of what is around it, inner axes first."""
    width, rest = itemsize, list[tuple[int, int]]()
    for extent, stride in axes:
        if extent == 1:
            continue
        if not rest and stride == width:
            width *= extent
        elif rest and stride == rest[-1][0] * rest[-1][1]:
            rest[-1] = rest[-1][0] * extent, rest[-1][1]
        else:
            rest.append((extent, stride))
    return width, rest


def matched(source: Rows, destination: Rows, node: str) -> tuple[Rows, Rows]:
    """Both ends of a copy, cut into the same rows.

    Raises:
        Unsupported: If they cannot be.
    """
    ends = source.as_one(), destination.as_one()
    model = max(ends, key=lambda rows: rows.count)
    cut = tuple(_cut(rows, model) for rows in ends)
    if any((rows.count, rows.width) != (model.count, model.width) for rows in cut):
        message = f"node '{node}' copies {source.count} rows of {source.width} bytes to {destination.count} rows"
        raise Unsupported(f"{message} of {destination.width}", hint="copy it in parts, or with a kernel")
    return cut[0], cut[1]


def _cut(rows: Rows, model: Rows) -> Rows:
    if rows.count == 1 and rows.size == model.size:
        return Rows(rows.offset, model.count, model.width, model.width)
    return rows
