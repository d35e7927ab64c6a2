"""``y = w @ x``: a matrix of weights times a vector of activations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Access, BufferParameter, Kernel, Phase, Role
from forerun.ir.nodes import Launch
from forerun.ir.types import DType
from forerun.kernels.shapes import typed_name

__all__ = ["KERNEL", "declare", "dot", "launch_for", "load_weights", "store"]

_WARPS = 8
_ROWS_PER_WARP = 4


def declare(dtype: DType = DType.F32) -> Kernel:
    """The kernel for weights of that type, ``N`` rows of ``K``; activations and accumulation are f32."""
    body = (
        Phase(
            "load_weights",
            reads=(Access("w"),),
            gives=("tile",),
            reference="forerun.kernels.gemv:load_weights",
        ),
        Phase("dot", reads=(Access("x"),), takes=("tile",), gives=("acc",), reference="forerun.kernels.gemv:dot"),
        Phase("store", takes=("acc",), writes=(Access("y"),), reference="forerun.kernels.gemv:store"),
    )
    return Kernel(
        typed_name("gemv", dtype),
        (
            BufferParameter("w", dtype, ("N", "K")),
            BufferParameter("x", DType.F32, ("K",)),
            BufferParameter("y", DType.F32, ("N",)),
        ),
        (Role("all", body),),
    )


KERNEL = declare()


def launch_for(rows: int) -> Launch:
    """8 warps a CTA, 4 rows a warp."""
    return Launch((-(-rows // (_WARPS * _ROWS_PER_WARP)), 1, 1), (32 * _WARPS, 1, 1))


def load_weights(w: NDArray[np.float32]) -> NDArray[np.float32]:
    """The weights, in f32."""
    return w.astype(np.float32, copy=False)


def dot(x: NDArray[np.float32], tile: NDArray[np.float32]) -> NDArray[np.float32]:
    """The products, summed over ``K``."""
    return tile @ x


def store(acc: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sums, written out."""
    return acc
