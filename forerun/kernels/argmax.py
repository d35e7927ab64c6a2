"""``token[index] = argmax(logits)``: the first of the greatest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.launches import WHOLE_WARPS
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.kernels.shapes import Floats, cuda_kernel

__all__ = ["KERNEL", "LAUNCH", "choose"]

LAUNCH = Launch((1, 1, 1), (1024, 1, 1))


@phase(writes="token[index:index + 1]")
def choose(logits: Floats) -> NDArray[np.int32]:
    """The index, as one element."""
    return np.array([logits.argmax()], np.int32)


KERNEL = cuda_kernel("argmax", "logits: f32[V], token: i32[N], index: scalar i32", choose, launches=WHOLE_WARPS)
