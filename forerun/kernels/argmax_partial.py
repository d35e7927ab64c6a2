"""The greatest logit of each of several equal parts of the vocabulary, for :mod:`~forerun.kernels.argmax_merge`."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Access, BufferParameter, Kernel, Phase, Role, ScalarParameter
from forerun.ir.launches import WHOLE_WARPS
from forerun.ir.nodes import Launch
from forerun.ir.types import DType
from forerun.kernels.shapes import cuda

__all__ = ["KERNEL", "choose", "launch_for"]

_CHOOSE = Phase(
    "choose",
    reads=(Access("logits"),),
    scalars=("parts",),
    writes=(Access("best"), Access("place")),
    reference="forerun.kernels.argmax_partial:choose",
)

KERNEL = Kernel(
    "argmax_partial",
    (
        BufferParameter("logits", DType.F32, ("V",)),
        BufferParameter("best", DType.F32, ("P",)),
        BufferParameter("place", DType.I32, ("P",)),
        ScalarParameter("parts", DType.I32),
    ),
    (Role("all", (_CHOOSE,)),),
    cuda("argmax_partial"),
    WHOLE_WARPS,
)
"""``parts`` is the number of parts, as a constant; it must be the extent ``P``, and at most ``V``."""


def launch_for(parts: int) -> Launch:
    """One CTA a part."""
    return Launch((parts, 1, 1), (256, 1, 1))


def choose(logits: NDArray[np.float32], parts: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The greatest of each part, and the index of the first one."""
    starts = [logits.size * part // parts for part in range(parts + 1)]
    places = [start + logits[start:stop].argmax() for start, stop in pairwise(starts)]
    return logits[places], np.array(places, np.int32)
