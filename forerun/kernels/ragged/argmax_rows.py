"""``token[r] = argmax(logits[r])``: the first of the greatest, for each request of a batch."""

from __future__ import annotations

import numpy as np

from forerun.ir.launches import WHOLE_WARPS
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.kernels.ragged.shapes import Words
from forerun.kernels.shapes import Floats, cuda_kernel

__all__ = ["KERNEL", "choose", "launch_for"]


def launch_for(requests: int) -> Launch:
    """One CTA a request."""
    return Launch((requests, 1, 1), (1024, 1, 1))


@phase(writes="token")
def choose(rows: Words, logits: Floats) -> Words:
    """The indices; 0 behind the requests of the batch."""
    found = np.zeros(len(logits), np.int32)
    found[: int(rows[0])] = logits[: int(rows[0])].argmax(axis=1)
    return found


KERNEL = cuda_kernel("argmax_rows", "rows: i32[1], logits: f32[R, V], token: i32[R]", choose, launches=WHOLE_WARPS)
