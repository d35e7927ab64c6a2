"""``y = silu(gate) * up`` (SwiGLU, arXiv:2002.05202), with ``silu(x) = x / (1 + exp(-x))``."""

from __future__ import annotations

import numpy as np

from forerun.ir.phases import phase
from forerun.kernels.shapes import Floats, cuda_kernel

__all__ = ["KERNEL", "activate"]

_HALF = np.float32(0.5)


@phase(writes="y")
def activate(gate: Floats, up: Floats) -> Floats:
    """The product. The logistic function is ``(1 + tanh(x / 2)) / 2``, which cannot overflow."""
    logistic = _HALF + _HALF * np.tanh(_HALF * gate)
    result: Floats = gate * logistic * up
    return result


KERNEL = cuda_kernel("silu_mul", "gate: f32[D], up: f32[D], y: f32[D]", activate)
