"""``y = a + b``: the residual, or a bias.

``a`` is loaded first, in a phase of its own: it is what was there before (the residual stream, a bias), ``b`` is what
the kernel before has just computed.
"""

from __future__ import annotations

from forerun.ir.phases import phase
from forerun.kernels.shapes import Floats, cuda_kernel

__all__ = ["KERNEL", "add", "load"]


@phase(defines="first")
def load(a: Floats) -> Floats:
    """The first summand."""
    return a


@phase(writes="y")
def add(b: Floats, first: Floats) -> Floats:
    """The sum."""
    return first + b


KERNEL = cuda_kernel("add", "a: f32[D], b: f32[D], y: f32[D]", load, add)
