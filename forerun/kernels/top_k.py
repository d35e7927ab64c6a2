"""The ``count`` greatest of a vector, the greatest first, and where they stand; of equal ones the first comes first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.launches import WHOLE_WARPS
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.kernels.shapes import Floats, cuda_kernel

__all__ = ["CASES", "KERNEL", "LAUNCH", "choose", "indices_of"]

LAUNCH = Launch((1, 1, 1), (256, 1, 1))
CASES = {"N": 37, "K": 5, "count": 5}, {"N": 4, "K": 4, "count": 4}


def indices_of(x: Floats, count: int) -> NDArray[np.int32]:
    """Where the greatest stand: NaN is greater than every number, as for ``argmax``."""
    order = np.lexsort((np.arange(x.size), -np.where(np.isnan(x), 0, x), ~np.isnan(x)))
    return order[:count].astype(np.int32)


@phase(writes="values, indices")
def choose(x: Floats, count: int) -> tuple[Floats, NDArray[np.int32]]:
    """The elements, and their indices."""
    found = indices_of(x, count)
    return x[found], found


KERNEL = cuda_kernel(
    "top_k", "x: f32[N], values: f32[K], indices: i32[K], count: scalar i32", choose, launches=WHOLE_WARPS
)
"""``count`` is how many, as a constant; it must be the extent ``K``, and at most ``N``."""
