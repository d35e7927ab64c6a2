"""``token[index] = argmax(logits)``: the first of the greatest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.affine import affine
from forerun.ir.kernel import Access, BufferParameter, Kernel, Phase, Role, ScalarParameter
from forerun.ir.launches import WHOLE_WARPS
from forerun.ir.nodes import Launch
from forerun.ir.region import region
from forerun.ir.types import DType
from forerun.kernels.shapes import cuda

__all__ = ["KERNEL", "LAUNCH", "choose"]

KERNEL = Kernel(
    "argmax",
    (
        BufferParameter("logits", DType.F32, ("V",)),
        BufferParameter("token", DType.I32, ("N",)),
        ScalarParameter("index", DType.I32),
    ),
    (
        Role(
            "all",
            (
                Phase(
                    "choose",
                    reads=(Access("logits"),),
                    writes=(Access("token", region(("index", affine("index") + 1))),),
                    reference="forerun.kernels.argmax:choose",
                ),
            ),
        ),
    ),
    cuda("argmax"),
    WHOLE_WARPS,
)

LAUNCH = Launch((1, 1, 1), (1024, 1, 1))


def choose(logits: NDArray[np.float32]) -> NDArray[np.int32]:
    """The index, as one element."""
    return np.array([logits.argmax()], np.int32)
