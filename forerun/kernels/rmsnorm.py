"""``y = x / sqrt(mean(x^2) + eps) * w`` (root mean square layer normalization, arXiv:1910.07467, equation 4)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Access, BufferParameter, Kernel, Phase, Role, ScalarParameter
from forerun.ir.launches import WHOLE_WARPS
from forerun.ir.nodes import Launch
from forerun.ir.types import DType
from forerun.kernels.shapes import cuda

__all__ = ["KERNEL", "launch_for", "load_scale", "normalize"]

KERNEL = Kernel(
    "rmsnorm",
    (
        BufferParameter("x", DType.F32, ("D",), align=16),
        BufferParameter("w", DType.F32, ("D",), align=16),
        BufferParameter("y", DType.F32, ("D",), align=16),
        ScalarParameter("eps", DType.F32),
    ),
    (
        Role(
            "all",
            (
                Phase(
                    "load_scale",
                    reads=(Access("w"),),
                    defines=("scale",),
                    reference="forerun.kernels.rmsnorm:load_scale",
                ),
                Phase(
                    "normalize",
                    reads=(Access("x"),),
                    uses=("scale",),
                    scalars=("eps",),
                    writes=(Access("y"),),
                    reference="forerun.kernels.rmsnorm:normalize",
                ),
            ),
        ),
    ),
    cuda("rmsnorm"),
    WHOLE_WARPS,
)


def launch_for(width: int) -> Launch:
    """One CTA, which reduces over the whole vector; a thread has four elements, or more of long vectors."""
    return Launch((1, 1, 1), (min(1024, -(-width // 128) * 32), 1, 1))


def load_scale(w: NDArray[np.float32]) -> NDArray[np.float32]:
    """The weights, kept in registers."""
    return w


def normalize(x: NDArray[np.float32], scale: NDArray[np.float32], eps: float) -> NDArray[np.float32]:
    """The scaled vector. The mean is taken in f32."""
    mean = np.float32(np.dot(x, x)) / np.float32(x.size)
    normalized: NDArray[np.float32] = x / np.sqrt(mean + np.float32(eps)) * scale
    return normalized
