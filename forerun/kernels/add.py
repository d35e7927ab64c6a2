"""``y = a + b``: the residual, or a bias.

``a`` is loaded first, in a phase of its own: it is what was there before (the residual stream, a bias), ``b`` is what
the kernel before has just computed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Access, BufferParameter, Kernel, Phase, Role
from forerun.ir.launches import ANY_LAUNCH
from forerun.ir.types import DType
from forerun.kernels.shapes import cuda

__all__ = ["KERNEL", "add", "load"]

KERNEL = Kernel(
    "add",
    (
        BufferParameter("a", DType.F32, ("D",)),
        BufferParameter("b", DType.F32, ("D",)),
        BufferParameter("y", DType.F32, ("D",)),
    ),
    (
        Role(
            "all",
            (
                Phase("load", reads=(Access("a"),), defines=("first",), reference="forerun.kernels.add:load"),
                Phase(
                    "add",
                    reads=(Access("b"),),
                    uses=("first",),
                    writes=(Access("y"),),
                    reference="forerun.kernels.add:add",
                ),
            ),
        ),
    ),
    cuda("add"),
    ANY_LAUNCH,
)


def load(a: NDArray[np.float32]) -> NDArray[np.float32]:
    """The first summand."""
    return a


def add(b: NDArray[np.float32], first: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sum."""
    return first + b
