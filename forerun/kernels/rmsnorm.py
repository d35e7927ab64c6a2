"""``y = x / sqrt(mean(x^2) + eps) * w`` (root mean square layer normalization, arXiv:1910.07467, equation 4)."""

from __future__ import annotations

import numpy as np

from forerun.ir.launches import WHOLE_WARPS
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.kernels.shapes import Floats, cuda_kernel

__all__ = ["KERNEL", "launch_for", "load_scale", "normalize"]

_PARAMETERS = "x: f32[D] align 16, w: f32[D] align 16, y: f32[D] align 16, eps: scalar f32"


def launch_for(width: int) -> Launch:
    """One CTA, which reduces over the whole vector; a thread has four elements, or more of long vectors."""
    return Launch((1, 1, 1), (min(1024, -(-width // 128) * 32), 1, 1))


@phase(defines="scale")
def load_scale(w: Floats) -> Floats:
    """The weights, kept in registers."""
    return w


@phase(writes="y")
def normalize(x: Floats, scale: Floats, eps: float) -> Floats:
    """The scaled vector. The mean is taken in f32."""
    mean = np.float32(np.dot(x, x)) / np.float32(x.size)
    normalized: Floats = x / np.sqrt(mean + np.float32(eps)) * scale
    return normalized


KERNEL = cuda_kernel("rmsnorm", _PARAMETERS, load_scale, normalize, launches=WHOLE_WARPS)
