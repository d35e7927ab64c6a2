"""``y = w @ x``: a matrix of weights times a vector of activations."""

from __future__ import annotations

import numpy as np

from forerun.ir.kernel import Kernel
from forerun.ir.launches import WHOLE_WARPS
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.ir.types import DType
from forerun.kernels.shapes import Floats, cuda_kernel, typed_name

__all__ = ["KERNEL", "declare", "dot", "launch_for", "load_weights", "store"]

_WARPS = 4
_PIECE = 512  # bytes that a warp loads at once
_FEW_CTAS = 128


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


@phase(defines="tile")
def load_weights(w: Floats) -> Floats:
    """The weights, in f32."""
    return w.astype(np.float32, copy=False)


@phase(defines="acc")
def dot(x: Floats, _w: Floats, tile: Floats) -> Floats:
    """The products, summed over ``K``. It reads weights too: what ``load_weights`` had no room for."""
    return tile @ x


@phase(writes="y")
def store(acc: Floats) -> Floats:
    """The sums, written out."""
    return acc


def declare(dtype: DType = DType.F32) -> Kernel:
    """The kernel for weights of that type, ``N`` rows of ``K``; activations and accumulation are f32."""
    parameters = f"w: {dtype}[N, K] align 16, x: f32[K] align 16, y: f32[N]"
    name = typed_name("gemv", dtype)
    return cuda_kernel("gemv", parameters, load_weights, dot, store, launches=WHOLE_WARPS, name=name)


KERNEL = declare()
