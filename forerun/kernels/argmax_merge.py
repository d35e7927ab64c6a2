"""``token[index]``: where the greatest of the parts of :mod:`~forerun.kernels.argmax_partial` stands."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.launches import WHOLE_WARPS
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.kernels.shapes import Floats, cuda_kernel

__all__ = ["KERNEL", "choose", "launch_for"]

_PARAMETERS = "best: f32[P], place: i32[P], token: i32[N], index: scalar i32"


def launch_for(parts: int) -> Launch:
    """One CTA, one thread a part."""
    return Launch((1, 1, 1), (min(1024, -(-parts // 32) * 32), 1, 1))


@phase(writes="token[index:index + 1]")
def choose(best: Floats, place: NDArray[np.int32]) -> NDArray[np.int32]:
    """The index, as one element. Parts are in order, so the first of equals wins."""
    return place[[best.argmax()]]


KERNEL = cuda_kernel("argmax_merge", _PARAMETERS, choose, launches=WHOLE_WARPS)
