"""Shapes and launches of the kernels that stream rows of matrices through shared memory (``cuda/row_stream.cuh``).

Every CTA takes consecutive rows. Each of its warps has a ring of tiles in dynamic shared memory; ``split`` warps share
a row if it is long, so that a tile is at most 4 KB. How many tiles a ring has is what the launch's shared memory holds.

Weights are read by asynchronous copies, so the phases that fill the rings give something that no register holds.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from forerun.ir.launches import Launches, Span
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase, phase_of
from forerun.ir.types import DType
from forerun.kernels import rmsnorm
from forerun.kernels.shapes import Floats

__all__ = ["LAUNCHES", "NORM", "SMS", "WARPS", "dot", "launch_for", "load_weights", "ring_depth", "split_of", "streams"]

SMS = 132
"""Streaming multiprocessors of an H100: as many CTAs stream best."""

WARPS = 8
"""Warps of a CTA."""

_TILE = 4096  # bytes at most
_ARRIVAL = 8
_VECTOR = 16
LAUNCHES = Launches(block=Span(32, 1024, 32), shared=Span(1, 227 * 1024), cluster=Span(1, 1))
"""Whole warps, whose rings are in dynamic shared memory. How many warps a row takes, and how many bytes, depends on the
shapes; the compiler checks that there are enough (``cuda/row_stream.cuh``)."""

_MOST_SHARED = 226 * 1024  # bytes: what a CTA may have on sm_90, less 1 KB for static variables


def split_of(columns: int, dtype: DType) -> int | None:
    """How many warps share a row: the least power of two that makes a tile; ``None`` if there is none.

    Example:
        >>> split_of(2048, DType.BF16), split_of(8192, DType.BF16), split_of(2048, DType.F32), split_of(20, DType.F16)
        (1, 4, 2, None)
    """
    row = columns * dtype.itemsize
    split = 1
    while row > _TILE * split:
        split *= 2
    return split if row and split <= WARPS and row % (_VECTOR * split) == 0 else None


def streams(columns: int, dtype: DType) -> bool:
    """Whether rows of that length can be streamed: their parts are copied 16 bytes at a time."""
    return dtype in (DType.F32, DType.BF16, DType.F16) and split_of(columns, dtype) is not None


def ring_depth(columns: int, dtype: DType, rows: int, shared_bytes: int, *, normalized: bool) -> int:
    """Tiles a warp that fit in the shared memory of a launch; what ``cuda/row_stream.cuh`` derives from it.

    ``rows`` are the most that a CTA has. A vector that is normalized is kept there too.
    """
    split = split_of(columns, dtype)
    assert split is not None
    room = shared_bytes - _fixed_bytes(columns, split, rows, normalized=normalized)
    tiles = -(-rows * split // WARPS)
    return min(max(1, tiles), room // (WARPS * (columns * dtype.itemsize // split + _ARRIVAL)))


def launch_for(columns: int, dtype: DType, units: int, rows: int, *, normalized: bool, depth: int = 3) -> Launch:
    """What was measured best on an H100: a CTA an SM, 8 warps.

    How deep the rings are decides which neighbours share an SM. Two CTAs of one kernel must not, while another SM has
    none: that takes one kernel of a layer that needs more than half of the shared memory (``norm_gate_up``), and others
    that fit beside it, and only once (benchmarks/NOTES.md).

    Args:
        columns: Of the matrix.
        dtype: Of its elements.
        units: What is dealt to the CTAs.
        rows: Of a unit.
        normalized: Whether the vector is normalized, and so is kept in shared memory too.
        depth: Tiles of 4 KB a warp; more of them if they are smaller.
    """
    grid = min(SMS, units)
    taken = _fixed_bytes(columns, split_of(columns, dtype) or 1, -(-units // grid) * rows, normalized=normalized)
    wanted = taken + WARPS * depth * (_TILE + _ARRIVAL)
    return Launch((grid, 1, 1), (32 * WARPS, 1, 1), min(_MOST_SHARED, -(-wanted // _VECTOR) * _VECTOR))


def _fixed_bytes(columns: int, split: int, rows: int, *, normalized: bool) -> int:
    """Beside the tiles: the normalized vector, and a sum for each part of a row."""
    return (4 * columns if normalized else 0) + 4 * split * rows


@phase(defines="tile", asynchronous=True)
def load_weights(w: Floats) -> Floats:
    """The matrix, in f32."""
    return w.astype(np.float32, copy=False)


@phase(defines="acc")
def dot(_w: Floats, tile: Floats, vector: Floats) -> Floats:
    """The products, summed over the columns. The phase reads what the rings had no room for."""
    return tile @ vector


NORM = (
    replace(phase_of(rmsnorm.load_scale), reads="scale"),
    replace(phase_of(rmsnorm.normalize), writes="", defines="vector"),
)
"""The phases that normalize ``x`` by ``scale`` and ``eps``, and define ``vector``.

The GPU multiplies by ``scale`` only, and divides the products by the root.
"""
