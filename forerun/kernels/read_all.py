"""``y[row] = x[row, 0] ^ x[row, 1] ^ ...``: the plainest way to read all of memory, for the bandwidth of a GPU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.launches import WHOLE_WARPS
from forerun.ir.phases import phase
from forerun.kernels.shapes import cuda_kernel

__all__ = ["KERNEL", "digest"]


@phase(writes="y")
def digest(x: NDArray[np.int32]) -> NDArray[np.int32]:
    """The exclusive or of each row."""
    result: NDArray[np.int32] = np.bitwise_xor.reduce(x, axis=1)
    return result


KERNEL = cuda_kernel("read_all", "x: i32[rows, words] align 16, y: i32[rows]", digest, launches=WHOLE_WARPS)
