"""``y = factor * a + b``: a scaled sum."""

from __future__ import annotations

import numpy as np

from forerun.ir.phases import phase
from forerun.kernels.shapes import Floats, cuda_kernel

__all__ = ["KERNEL", "add", "load"]


@phase(defines="first")
def load(a: Floats) -> Floats:
    """The first summand."""
    return a


@phase(writes="y")
def add(b: Floats, first: Floats, factor: float) -> Floats:
    """The sum."""
    return np.float32(factor) * first + b


KERNEL = cuda_kernel("scaled_add", "a: f32[N], b: f32[N], y: f32[N], factor: scalar f32", load, add)
