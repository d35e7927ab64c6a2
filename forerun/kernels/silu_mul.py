"""``y = silu(gate) * up`` (SwiGLU, arXiv:2002.05202), with ``silu(x) = x / (1 + exp(-x))``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Access, BufferParameter, Kernel, Phase, Role
from forerun.ir.launches import ANY_LAUNCH
from forerun.ir.types import DType
from forerun.kernels.shapes import cuda

__all__ = ["KERNEL", "activate"]

KERNEL = Kernel(
    "silu_mul",
    (
        BufferParameter("gate", DType.F32, ("D",)),
        BufferParameter("up", DType.F32, ("D",)),
        BufferParameter("y", DType.F32, ("D",)),
    ),
    (
        Role(
            "all",
            (
                Phase(
                    "activate",
                    reads=(Access("gate"), Access("up")),
                    writes=(Access("y"),),
                    reference="forerun.kernels.silu_mul:activate",
                ),
            ),
        ),
    ),
    cuda("silu_mul"),
    ANY_LAUNCH,
)

_HALF = np.float32(0.5)


def activate(gate: NDArray[np.float32], up: NDArray[np.float32]) -> NDArray[np.float32]:
    """The product. The logistic function is ``(1 + tanh(x / 2)) / 2``, which cannot overflow."""
    logistic = _HALF + _HALF * np.tanh(_HALF * gate)
    result: NDArray[np.float32] = gate * logistic * up
    return result
