"""The greatest logit of each of several equal parts of the vocabulary, for :mod:`~forerun.kernels.argmax_merge`."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from forerun.ir.launches import WHOLE_WARPS
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.kernels.shapes import Floats, cuda_kernel

__all__ = ["KERNEL", "choose", "launch_for"]

_PARAMETERS = "logits: f32[V], best: f32[P], place: i32[P], parts: scalar i32"


def launch_for(parts: int) -> Launch:
    """One CTA a part."""
    return Launch((parts, 1, 1), (256, 1, 1))


@phase(writes="best, place")
def choose(logits: Floats, parts: int) -> tuple[Floats, NDArray[np.int32]]:
    """The greatest of each part, and the index of the first one."""
    starts = [logits.size * part // parts for part in range(parts + 1)]
    places = [start + logits[start:stop].argmax() for start, stop in pairwise(starts)]
    return logits[places], np.array(places, np.int32)


KERNEL = cuda_kernel("argmax_partial", _PARAMETERS, choose, launches=WHOLE_WARPS)
"""``parts`` is the number of parts, as a constant; it must be the extent ``P``, and at most ``V``."""
