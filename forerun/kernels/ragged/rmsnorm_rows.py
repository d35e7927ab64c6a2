"""``y = x / sqrt(mean(x^2) + eps) * w`` for each row of a batch (arXiv:1910.07467, equation 4), in bf16 or f16."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Kernel
from forerun.ir.launches import WHOLE_WARPS
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.ir.types import DType
from forerun.kernels.ragged.shapes import Words, padded, require_short, rounded
from forerun.kernels.shapes import Floats, cuda_kernel

__all__ = ["KERNEL", "declare", "launch_for", "normalize_bf16", "normalize_f16"]


def launch_for(rows: int, width: int) -> Launch:
    """One CTA a row; a thread has eight elements, or more of long rows."""
    return Launch((rows, 1, 1), (min(1024, -(-width // 256) * 32), 1, 1))


def _normalized(rows: Words, x: Floats, w: Floats, eps: float) -> Floats:
    values = x[: int(rows[0])]
    # A row at a time, so that its sum has the same order in any batch.
    means = np.array([np.dot(row, row) for row in values], np.float32) / np.float32(x.shape[1])
    normalized: Floats = values / np.sqrt(means + np.float32(eps))[:, np.newaxis] * w
    return normalized


@phase(name="normalize", writes="y")
def normalize_bf16(rows: Words, x: Floats, w: Floats, eps: float) -> NDArray[Any]:
    """The scaled rows, rounded to bf16. The mean is taken in f32."""
    return padded(rounded(_normalized(rows, x, w, eps), DType.BF16), len(x))


@phase(name="normalize", writes="y")
def normalize_f16(rows: Words, x: Floats, w: Floats, eps: float) -> NDArray[Any]:
    """The scaled rows, rounded to f16. The mean is taken in f32."""
    return padded(rounded(_normalized(rows, x, w, eps), DType.F16), len(x))


def declare(dtype: DType = DType.BF16) -> Kernel:
    """The kernel for results of that type.

    Raises:
        InvalidInput: If it is neither bf16 nor f16.
    """
    require_short(dtype)
    normalize = normalize_bf16 if dtype is DType.BF16 else normalize_f16
    parameters = f"rows: i32[1], x: f32[Q, D] align 16, w: f32[D] align 16, y: {dtype}[Q, D] align 16, eps: scalar f32"
    return cuda_kernel("rmsnorm_rows", parameters, normalize, launches=WHOLE_WARPS, name=f"rmsnorm_rows_{dtype}")


KERNEL = declare()
