"""``y = w @ x``: a matrix of weights times a vector of activations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Access, BufferParameter, Kernel, Phase, Role
from forerun.ir.launches import WHOLE_WARPS
from forerun.ir.nodes import Launch
from forerun.ir.types import DType
from forerun.kernels.shapes import cuda, typed_name

__all__ = ["KERNEL", "declare", "dot", "launch_for", "load_weights", "store"]

_WARPS = 4
_PIECE = 512  # bytes that a warp loads at once
_FEW_CTAS = 128


def declare(dtype: DType = DType.F32) -> Kernel:
    """The kernel for weights of that type, ``N`` rows of ``K``; activations and accumulation are f32.

    ``dot`` reads weights too: what ``load_weights`` had no room for.
    """
    body = (
        Phase(
            "load_weights",
            reads=(Access("w"),),
            defines=("tile",),
            reference="forerun.kernels.gemv:load_weights",
        ),
        Phase(
            "dot",
            reads=(Access("x"), Access("w")),
            uses=("tile",),
            defines=("acc",),
            reference="forerun.kernels.gemv:dot",
        ),
        Phase("store", uses=("acc",), writes=(Access("y"),), reference="forerun.kernels.gemv:store"),
    )
    return Kernel(
        typed_name("gemv", dtype),
        (
            BufferParameter("w", dtype, ("N", "K"), align=16),
            BufferParameter("x", DType.F32, ("K",), align=16),
            BufferParameter("y", DType.F32, ("N",)),
        ),
        (Role("all", body),),
        cuda("gemv"),
        WHOLE_WARPS,
    )


KERNEL = declare()


def launch_for(rows: int, columns: int = 2048, dtype: DType = DType.BF16) -> Launch:
    """4 warps a CTA; 4 rows a warp (8 if they are short), or fewer if there would be few CTAs.

    Warps share rows that are longer than 4 KB, as in ``cuda/gemv.cu``, so that each has up to 16 KB in registers. The
    registers of 4 warps leave room for two more CTAs on an SM.
    """
    pieces = -(-columns * dtype.itemsize // _PIECE)
    sharing = 1
    while sharing < _WARPS and sharing * 8 < pieces:
        sharing *= 2
    groups = _WARPS // sharing
    rows_a_group = 4 if pieces > 4 * sharing else 8
    while rows_a_group > 1 and rows < _FEW_CTAS * groups * rows_a_group:
        rows_a_group //= 2
    return Launch((-(-rows // (groups * rows_a_group)), 1, 1), (32 * _WARPS, 1, 1))


def load_weights(w: NDArray[np.float32]) -> NDArray[np.float32]:
    """The weights, in f32."""
    return w.astype(np.float32, copy=False)


def dot(x: NDArray[np.float32], _w: NDArray[np.float32], tile: NDArray[np.float32]) -> NDArray[np.float32]:
    """The products, summed over ``K``."""
    return tile @ x


def store(acc: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sums, written out."""
    return acc
