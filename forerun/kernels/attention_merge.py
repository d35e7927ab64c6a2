"""Puts the parts of :mod:`~forerun.kernels.attention_split` together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Access, BufferParameter, Kernel, Phase, Role
from forerun.ir.launches import ANY_LAUNCH
from forerun.ir.nodes import Launch
from forerun.ir.types import DType
from forerun.kernels.shapes import cuda

__all__ = ["KERNEL", "launch_for", "merge"]

_MERGE = Phase(
    "merge",
    reads=(Access("partial"), Access("statistics")),
    writes=(Access("y"),),
    reference="forerun.kernels.attention_merge:merge",
)

KERNEL = Kernel(
    "attention_merge",
    (
        BufferParameter("partial", DType.F32, ("S", "H", "HD")),
        BufferParameter("statistics", DType.F32, ("S", "H", 2)),
        BufferParameter("y", DType.F32, ("H", "HD")),
    ),
    (Role("all", (_MERGE,)),),
    cuda("attention_merge"),
    ANY_LAUNCH,
)


def launch_for(heads: int, head_size: int) -> Launch:
    """One thread an element; small CTAs, so that many SMs load."""
    return Launch((-(-heads * head_size // 64), 1, 1), (64, 1, 1))


def merge(partial: NDArray[np.float32], statistics: NDArray[np.float32]) -> NDArray[np.float32]:
    """The parts, each weighted by ``exp(its greatest score - the greatest of all)``, over the sum of all weights."""
    greatest, sums = statistics[:, :, 0], statistics[:, :, 1]
    shares = np.exp(greatest - greatest.max(axis=0))
    weighted = (shares[:, :, np.newaxis] * partial).sum(axis=0)
    result: NDArray[np.float32] = weighted / (shares * sums).sum(axis=0)[:, np.newaxis]
    return result
