"""``y = silu(w_gate @ n) * (w_up @ n)`` of the normalized vector ``n``: a norm, two projections and SwiGLU in one.

Every CTA normalizes the vector for itself; rows of the two matrices take turns, so that it has both sums of an element.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Access, BufferParameter, Kernel, Phase, Role, ScalarParameter
from forerun.ir.nodes import Launch
from forerun.ir.types import DType
from forerun.kernels import row_stream
from forerun.kernels.shapes import cuda, typed_name

__all__ = ["KERNEL", "declare", "dot", "fits", "launch_for", "load_weights"]

_MATRICES = Access("w_gate"), Access("w_up")


def declare(dtype: DType = DType.F32) -> Kernel:
    """The kernel for matrices of that type; all else is f32."""
    body = (
        Phase(
            "load_weights",
            reads=_MATRICES,
            defines=("tile_gate", "tile_up"),
            asynchronous=True,
            reference="forerun.kernels.norm_gate_up:load_weights",
        ),
        *row_stream.norm_phases(),
        Phase(
            "dot",
            reads=_MATRICES,
            uses=("tile_gate", "tile_up", "vector"),
            defines=("gate", "up"),
            reference="forerun.kernels.norm_gate_up:dot",
        ),
        Phase(
            "activate",
            uses=("gate", "up"),
            writes=(Access("y"),),
            reference="forerun.kernels.silu_mul:activate",
        ),
    )
    return Kernel(
        typed_name("norm_gate_up", dtype),
        (
            BufferParameter("x", DType.F32, ("K",), align=16),
            BufferParameter("scale", DType.F32, ("K",), align=16),
            BufferParameter("w_gate", dtype, ("N", "K"), align=16),
            BufferParameter("w_up", dtype, ("N", "K"), align=16),
            BufferParameter("y", DType.F32, ("N",)),
            ScalarParameter("eps", DType.F32),
        ),
        (Role("all", body),),
        cuda("norm_gate_up"),
        row_stream.LAUNCHES,
    )


KERNEL = declare()


def fits(columns: int, dtype: DType) -> bool:
    """Whether the kernel takes matrices of that many columns."""
    return row_stream.streams(columns, dtype)


def launch_for(rows: int, columns: int, dtype: DType = DType.BF16) -> Launch:
    """The launch for a number of rows of each matrix; see :func:`forerun.kernels.row_stream.launch_for`.

    Its rings are deeper than others': they are filled while attention waits for memory, and loads little itself.
    """
    return row_stream.launch_for(columns, dtype, rows, 2, normalized=True, depth=4)


def load_weights(
    w_gate: NDArray[np.float32], w_up: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The matrices, in f32."""
    return row_stream.load_weights(w_gate), row_stream.load_weights(w_up)


def dot(
    _w_gate: NDArray[np.float32],
    _w_up: NDArray[np.float32],
    tile_gate: NDArray[np.float32],
    tile_up: NDArray[np.float32],
    vector: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both products."""
    return tile_gate @ vector, tile_up @ vector
