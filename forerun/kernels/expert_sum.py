"""``y = share[0] * x[0] + share[1] * x[1] + ...``: what the chosen experts of a mixture say together."""

from __future__ import annotations

from forerun.ir.phases import phase
from forerun.kernels.shapes import Floats, cuda_kernel

__all__ = ["KERNEL", "total"]


@phase(writes="y")
def total(x: Floats, share: Floats) -> Floats:
    """The weighted sum."""
    return share @ x


KERNEL = cuda_kernel("expert_sum", "x: f32[S, N], share: f32[S], y: f32[N]", total)
