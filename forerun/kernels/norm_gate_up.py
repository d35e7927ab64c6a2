"""``y = silu(w_gate @ n) * (w_up @ n)`` of the normalized vector ``n``: a norm, two projections and SwiGLU in one.

Every CTA normalizes the vector for itself; rows of the two matrices take turns, so that it has both sums of an element.
"""

from __future__ import annotations

from dataclasses import replace

from forerun.ir.kernel import Kernel
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.ir.types import DType
from forerun.kernels import row_stream, silu_mul
from forerun.kernels.packed_phases import load_phase
from forerun.kernels.packing import Packing, Storage
from forerun.kernels.shapes import Floats, cuda_kernel, matrix, typed_name

__all__ = ["KERNEL", "declare", "dot", "fits", "launch_for", "load_weights"]

_RINGS = 64  # KB
_FEW_ELEMENTS = 32

_MORE_THAN_HALF = 114 * 1024  # bytes, of the 228 KB of an SM, of which each CTA takes 1 KB more


def fits(columns: int, storage: Storage) -> bool:
    """Whether the kernel takes matrices of that many columns."""
    return row_stream.streams(columns, storage)


def launch_for(rows: int, columns: int, storage: Storage = DType.BF16) -> Launch:
    """The launch for a number of rows of each matrix; see :func:`forerun.kernels.row_stream.launch_for`.

    Its rings are deeper than others': they are filled while attention waits for memory, and loads little itself. For
    blocks they are only so deep that it needs more than half of the shared memory: the projection after it has a long
    vector there, and needs room for it. Of short rows a lane has few elements, so the registers of 16 warps fit beside
    the neighbours', and each warp has half as many rows to multiply one after the other.
    """
    if isinstance(storage, Packing):
        launch = row_stream.launch_for(columns, storage, rows, 2, normalized=True)
        return replace(launch, shared_bytes=max(launch.shared_bytes, _MORE_THAN_HALF))
    many = 2 * row_stream.share_of(rows, columns, storage) > _RINGS
    warps = 16 if many and row_stream.elements_of_lane(columns, storage) <= _FEW_ELEMENTS else 0
    return row_stream.launch_for(columns, storage, rows, 2, normalized=True, tiles=4 * row_stream.WARPS, warps=warps)


@phase(defines="tile_gate, tile_up", asynchronous=True)
def load_weights(w_gate: Floats, w_up: Floats) -> tuple[Floats, Floats]:
    """The matrices, in f32."""
    return row_stream.load_weights(w_gate), row_stream.load_weights(w_up)


@phase(defines="gate, up")
def dot(_w_gate: Floats, _w_up: Floats, tile_gate: Floats, tile_up: Floats, vector: Floats) -> tuple[Floats, Floats]:
    """Both products."""
    return tile_gate @ vector, tile_up @ vector


def declare(storage: Storage = DType.F32) -> Kernel:
    """The kernel for matrices that are stored so; all else is f32."""
    matrices = f"{matrix('w_gate', 'N', storage)}, {matrix('w_up', 'N', storage)}"
    parameters = f"x: f32[K] align 16, scale: f32[K] align 16, {matrices}, y: f32[N], eps: scalar f32"
    load = load_phase(load_weights, storage, "w_gate", "w_up")
    body = load, *row_stream.NORM, dot, silu_mul.activate
    name = typed_name("norm_gate_up", storage)
    return cuda_kernel("norm_gate_up", parameters, *body, launches=row_stream.LAUNCHES, name=name)


KERNEL = declare()
