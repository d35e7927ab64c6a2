"""The gate of a mixture of experts: the ``count`` greatest logits choose experts, whose shares are their softmax."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.launches import WHOLE_WARPS
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.kernels.shapes import Floats, cuda_kernel
from forerun.kernels.top_k import indices_of

__all__ = ["CASES", "KERNEL", "LAUNCH", "route"]

LAUNCH = Launch((1, 1, 1), (32, 1, 1))
CASES = {"E": 37, "K": 5, "count": 5}, {"E": 32, "K": 4, "count": 4}


@phase(writes="chosen, share")
def route(logits: Floats, count: int) -> tuple[NDArray[np.int32], Floats]:
    """The experts, the likeliest first, and their shares, which sum to one."""
    chosen = indices_of(logits, count)
    raised = np.exp(logits[chosen] - logits[chosen[0]])
    return chosen, raised / raised.sum(dtype=np.float32)


KERNEL = cuda_kernel(
    "router", "logits: f32[E], chosen: i32[K], share: f32[K], count: scalar i32", route, launches=WHOLE_WARPS
)
"""``count`` is how many experts, as a constant; it must be the extent ``K``, and at most ``E``."""
