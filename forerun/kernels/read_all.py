"""``y[row] = x[row, 0] ^ x[row, 1] ^ ...``: the plainest way to read all of memory, for the bandwidth of a GPU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Access, BufferParameter, Kernel, Phase, Role
from forerun.ir.launches import WHOLE_WARPS
from forerun.ir.types import DType
from forerun.kernels.shapes import cuda

__all__ = ["KERNEL", "digest"]

KERNEL = Kernel(
    "read_all",
    (BufferParameter("x", DType.I32, ("rows", "words"), align=16), BufferParameter("y", DType.I32, ("rows",))),
    (
        Role(
            "all",
            (
                Phase(
                    "digest",
                    reads=(Access("x"),),
                    writes=(Access("y"),),
                    reference="forerun.kernels.read_all:digest",
                ),
            ),
        ),
    ),
    cuda("read_all"),
    WHOLE_WARPS,
)


def digest(x: NDArray[np.int32]) -> NDArray[np.int32]:
    """The exclusive or of each row."""
    result: NDArray[np.int32] = np.bitwise_xor.reduce(x, axis=1)
    return result
