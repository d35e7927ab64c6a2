"""``logits = w @ n`` of the normalized vector ``n``, and the greatest of each part of them: the end of a decode step.

What it gives is what :mod:`~forerun.kernels.argmax_partial` gives :mod:`~forerun.kernels.argmax_merge`: the parts are
the same. A CTA takes consecutive parts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Kernel
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.ir.types import DType
from forerun.kernels import argmax_partial, row_stream
from forerun.kernels.packed_phases import load_phase
from forerun.kernels.packing import Packing, Storage
from forerun.kernels.shapes import Floats, cuda_kernel, matrix, typed_name

__all__ = ["KERNEL", "PARTS", "choose", "declare", "fits", "launch_for"]

PARTS = row_stream.SMS
"""How many parts suit an H100 or an H200: one a CTA."""

_MOST_ELEMENTS_OF_24_WARPS = 48
"""Elements of the vector that a lane may keep: 24 warps have 80 registers a thread at most."""


def fits(columns: int, storage: Storage, rows: int = 0, parts: int = PARTS) -> bool:
    """Whether the kernel takes a matrix of these columns and rows; a CTA keeps the sums of its parts."""
    if not row_stream.streams(columns, storage):
        return False
    launch = launch_for(rows, columns, storage, parts)
    rows_of_cta = -(-rows // parts) * -(-parts // launch.grid[0])
    return row_stream.ring_depth(columns, storage, rows_of_cta, launch, normalized=True) > 0


def launch_for(rows: int, columns: int, storage: Storage = DType.BF16, parts: int = PARTS) -> Launch:
    """One CTA a part, if that is not too many; see :func:`forerun.kernels.row_stream.launch_for`.

    There is no kernel after it to have room for. So the rings of 16 warps, for blocks, are deeper, and otherwise it has
    as many warps as registers hold: each multiplies fewer rows, one after the other.
    """
    if isinstance(storage, Packing):
        tiles, warps = 5 * row_stream.WARPS, row_stream.WARPS_OF_BLOCKS
    elif row_stream.elements_of_lane(columns, storage) <= _MOST_ELEMENTS_OF_24_WARPS:
        tiles, warps = 24, 24
    else:
        tiles, warps = 36, 12 if 12 % (row_stream.split_of(columns, storage) or 1) == 0 else row_stream.WARPS
    units, rows_of_unit = parts, -(-rows // parts)
    return row_stream.launch_for(columns, storage, units, rows_of_unit, normalized=True, tiles=tiles, warps=warps)


@phase(writes="logits, best_value, best_index")
def choose(acc: Floats, parts: int) -> tuple[Floats, Floats, NDArray[np.int32]]:
    """The logits, the greatest of each part, and the index of the first one."""
    return acc, *argmax_partial.choose(acc, parts)


def declare(storage: Storage = DType.F32) -> Kernel:
    """The kernel for a matrix that is stored so; all else is f32.

    ``parts`` is the number of parts, as a constant; it must be the extent ``P``, and at most ``V``.
    """
    inputs = f"x: f32[K] align 16, scale: f32[K] align 16, {matrix('w', 'V', storage)}"
    outputs = "logits: f32[V], best_value: f32[P], best_index: i32[P]"
    parameters = f"{inputs}, {outputs}, eps: scalar f32, parts: scalar i32"
    load = load_phase(row_stream.load_weights, storage, "w")
    body = load, *row_stream.NORM, row_stream.dot, choose
    name = typed_name("norm_head", storage)
    return cuda_kernel("norm_head", parameters, *body, launches=row_stream.LAUNCHES, name=name)


KERNEL = declare()
