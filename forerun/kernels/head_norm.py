"""``y = x / sqrt(mean(x^2) + eps) * w`` for each head: the norm of queries and keys in Qwen3's models."""

from __future__ import annotations

import numpy as np

from forerun.ir.launches import WHOLE_WARPS
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.kernels.shapes import Floats, cuda_kernel

__all__ = ["KERNEL", "launch_for", "normalize"]

_WARPS = 4

_PARAMETERS = "x: f32[H, HD], w: f32[HD], y: f32[H, HD], eps: scalar f32"


def launch_for(heads: int) -> Launch:
    """A warp a head."""
    return Launch((-(-heads // _WARPS), 1, 1), (32 * _WARPS, 1, 1))


@phase(writes="y")
def normalize(x: Floats, w: Floats, eps: float) -> Floats:
    """The scaled heads. Means are taken in f32.

    Example:
        >>> normalize(np.array([[5, 5], [-2, 2]], np.float32), np.ones(2, np.float32), 0.0).tolist()
        [[1.0, 1.0], [-1.0, 1.0]]
    """
    roots: Floats = np.sqrt(np.mean(x * x, axis=1, keepdims=True) + np.float32(eps))
    return x / roots * w


KERNEL = cuda_kernel("head_norm", _PARAMETERS, normalize, launches=WHOLE_WARPS)
