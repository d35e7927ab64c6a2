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
from forerun.kernels.packing import UNIT, Packing, Storage
from forerun.kernels.shapes import Floats

__all__ = [
    "LAUNCHES",
    "NORM",
    "SMS",
    "WARPS",
    "WARPS_OF_BLOCKS",
    "dot",
    "elements_of_lane",
    "launch_for",
    "load_weights",
    "ring_depth",
    "share_of",
    "split_of",
    "streams",
]

SMS = 132
"""Streaming multiprocessors of an H100: as many CTAs stream best."""

WARPS = 8
"""Warps of a CTA."""

WARPS_OF_BLOCKS = 16
"""Warps of a CTA that reads quantised blocks, of which a byte takes more instructions. It was measured to be best:
with 64 registers a thread two such kernels fit on an SM (benchmarks/NOTES.md)."""

_TILE = 4096  # bytes at most
_ARRIVAL = 8
_VECTOR = 16
_AT_ONCE = 2  # rows of blocks that a warp multiplies together
_FIXED_POINT = 104  # bytes of 32 elements of the vector: three planes of bytes, a scale, and the sum
LAUNCHES = Launches(block=Span(32, 1024, 32), shared=Span(1, 227 * 1024), cluster=Span(1, 1))
"""Whole warps, whose rings are in dynamic shared memory. How many warps a row takes, and how many bytes, depends on the
shapes; the compiler checks that there are enough (``cuda/row_stream.cuh``)."""

_MOST_SHARED = 226 * 1024  # bytes: what a CTA may have on sm_90, less 1 KB for static variables


def split_of(columns: int, storage: Storage) -> int | None:
    """How many warps share a row: the least power of two that makes a tile; ``None`` if there is none.

    Example:
        >>> split_of(2048, DType.BF16), split_of(8192, DType.BF16), split_of(2048, DType.F32), split_of(20, DType.F16)
        (1, 4, 2, None)
    """
    if isinstance(storage, Packing):
        return storage.tiles(columns)
    row = columns * storage.itemsize
    split = 1
    while row > _TILE * split:
        split *= 2
    return split if row and split <= WARPS and row % (_VECTOR * split) == 0 else None


def streams(columns: int, storage: Storage) -> bool:
    """Whether rows of that length can be streamed: their parts are copied 16 bytes at a time."""
    streamed = isinstance(storage, Packing) or storage in (DType.F32, DType.BF16, DType.F16)
    return streamed and split_of(columns, storage) is not None


def ring_depth(columns: int, storage: Storage, rows: int, launch: Launch, *, normalized: bool) -> int:
    """Tiles a warp that fit in the shared memory of a launch; what ``cuda/row_stream.cuh`` derives from it.

    ``rows`` are the most that a CTA has. A vector that is normalized is kept there too.
    """
    split = split_of(columns, storage)
    assert split is not None
    room = launch.shared_bytes - _fixed_bytes(columns, storage, rows, normalized=normalized)
    warps = launch.block[0] // 32
    wanted = max(1, -(-rows * split // warps))
    row = storage.row_bytes(columns) if isinstance(storage, Packing) else columns * storage.itemsize
    most = room // (warps * (row // split + _ARRIVAL))
    batch = _AT_ONCE if isinstance(storage, Packing) else 1
    while batch > 1 and (batch >= 2 * wanted or batch > most):
        batch //= 2
    return min(-(-wanted // batch), most // batch) * batch


def _warps_for(storage: Storage) -> int:
    return WARPS_OF_BLOCKS if isinstance(storage, Packing) else WARPS


def share_of(rows: int, columns: int, storage: Storage) -> float:
    """KB of a matrix for each SM; none for quantised blocks, to which nothing that follows from it applies.

    Example:
        >>> share_of(2048, 8192, DType.BF16)
        248.24242424242425
    """
    return 0.0 if isinstance(storage, Packing) else rows * columns * storage.itemsize / (SMS * 1024)


def elements_of_lane(columns: int, storage: Storage) -> int:
    """How much of the vector a lane keeps in registers."""
    return -(-columns // (32 * (split_of(columns, storage) or 1)))


def launch_for(
    columns: int,
    storage: Storage,
    units: int,
    rows: int,
    *,
    normalized: bool,
    tiles: int = 3 * WARPS,
    ctas: int = 1,
    warps: int = 0,
) -> Launch:
    """What was measured best: a CTA an SM, of 8 warps, or for quantised blocks of 16, unless the kernel says otherwise.

    How deep the rings are decides which neighbours share an SM. Two CTAs of one kernel must not, while another SM has
    none: that takes one kernel of a layer that needs more than half of the shared memory (``norm_gate_up``), and others
    that fit beside it, and only once, or else as many CTAs as fill all SMs (benchmarks/NOTES.md).

    Args:
        columns: Of the matrix.
        storage: Of its elements.
        units: What is dealt to the CTAs.
        rows: Of a unit.
        normalized: Whether the vector is normalized, and so is kept in shared memory too.
        tiles: Tiles of 4 KB in the rings of a CTA; more of them if they are smaller.
        ctas: CTAs an SM.
        warps: Of a CTA; 0 for the usual number.
    """
    grid = min(SMS * ctas, units)
    taken = _fixed_bytes(columns, storage, -(-units // grid) * rows, normalized=normalized)
    wanted = taken + tiles * (_TILE + _ARRIVAL)
    threads = 32 * (warps or _warps_for(storage))
    return Launch((grid, 1, 1), (threads, 1, 1), min(_MOST_SHARED, -(-wanted // _VECTOR) * _VECTOR))


def _fixed_bytes(columns: int, storage: Storage, rows: int, *, normalized: bool) -> int:
    """Beside the tiles: the vector, if it is normalized or in fixed point, and a sum for each part of a row."""
    sums = 4 * (split_of(columns, storage) or 1) * rows
    if isinstance(storage, Packing):
        return -(-_FIXED_POINT * (columns // UNIT) // _VECTOR) * _VECTOR + sums
    return (4 * columns if normalized else 0) + sums


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
