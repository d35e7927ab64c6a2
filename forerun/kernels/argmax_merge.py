"""``token[index]``: where the greatest of the parts of :mod:`~forerun.kernels.argmax_partial` stands."""

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

__all__ = ["KERNEL", "choose", "launch_for"]

_CHOOSE = Phase(
    "choose",
    reads=(Access("best"), Access("place")),
    writes=(Access("token", region(("index", affine("index") + 1))),),
    reference="forerun.kernels.argmax_merge:choose",
)

KERNEL = Kernel(
    "argmax_merge",
    (
        BufferParameter("best", DType.F32, ("P",)),
        BufferParameter("place", DType.I32, ("P",)),
        BufferParameter("token", DType.I32, ("N",)),
        ScalarParameter("index", DType.I32),
    ),
    (Role("all", (_CHOOSE,)),),
    cuda("argmax_merge"),
    WHOLE_WARPS,
)


def launch_for(parts: int) -> Launch:
    """One CTA, one thread a part."""
    return Launch((1, 1, 1), (min(1024, -(-parts // 32) * 32), 1, 1))


def choose(best: NDArray[np.float32], place: NDArray[np.int32]) -> NDArray[np.int32]:
    """The index, as one element. Parts are in order, so the first of equals wins."""
    return place[[best.argmax()]]
