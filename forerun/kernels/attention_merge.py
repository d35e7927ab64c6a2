"""Puts the parts of :mod:`~forerun.kernels.attention_split` together."""

from __future__ import annotations

import numpy as np

from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.kernels.shapes import Floats, cuda_kernel

__all__ = ["KERNEL", "launch_for", "merge"]


def launch_for(heads: int, head_size: int) -> Launch:
    """One thread an element; small CTAs, so that many SMs load."""
    return Launch((-(-heads * head_size // 64), 1, 1), (64, 1, 1))


@phase(writes="y")
def merge(partial: Floats, statistics: Floats) -> Floats:
    """The parts, each weighted by ``exp(its greatest score - the greatest of all)``, over the sum of all weights."""
    greatest, sums = statistics[:, :, 0], statistics[:, :, 1]
    shares = np.exp(greatest - greatest.max(axis=0))
    weighted = (shares[:, :, np.newaxis] * partial).sum(axis=0)
    result: Floats = weighted / (shares * sums).sum(axis=0)[:, np.newaxis]
    return result


KERNEL = cuda_kernel("attention_merge", "partial: f32[S, H, HD], statistics: f32[S, H, 2], y: f32[H, HD]", merge)
