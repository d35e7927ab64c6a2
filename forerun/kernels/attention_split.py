"""Attention of one query over parts of the KV cache's rows, for :mod:`~forerun.kernels.attention_merge`.

The parts are equal shares of rows ``0`` to ``pos``, rounded up: the last ones may be smaller, or empty. The query heads
that share a KV head are taken together, so that each row is loaded once for all of them.
"""

from __future__ import annotations

import numpy as np

from forerun.ir.kernel import Kernel
from forerun.ir.launches import WHOLE_WARPS
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.ir.types import DType
from forerun.kernels.attention import ROWS, load_past, parameters, scores_of
from forerun.kernels.shapes import Floats, cuda_kernel, typed_name

__all__ = ["KERNEL", "attend", "declare", "launch_for"]

_WARPS = 4


def launch_for(kv_heads: int, splits: int) -> Launch:
    """One CTA a part of a KV head."""
    return Launch((kv_heads * splits, 1, 1), (32 * _WARPS, 1, 1))


@phase(reads=f"q, {ROWS}", writes="partial, statistics")
def attend(q: Floats, k: Floats, v: Floats, past_k: Floats, past_v: Floats, splits: int) -> tuple[Floats, Floats]:
    """The parts' results ``[S, H, HD]``, and their greatest scores and sums ``[S, H, 2]``."""
    scores = scores_of(q, k, past_k)
    values = np.concatenate((past_v, v[-1:].astype(np.float32, copy=False))).transpose(1, 0, 2)
    rows = scores.shape[2]
    share = -(-rows // splits)
    partial = np.zeros((splits, *q.shape), np.float32)
    statistics = np.zeros((splits, len(q), 2), np.float32)
    statistics[:, :, 0] = -np.inf
    for part, start in enumerate(range(0, rows, share)):
        span = scores[:, :, start : start + share]
        greatest = span.max(axis=2, keepdims=True)
        weights = np.exp(span - greatest)
        partial[part] = (weights @ values[:, start : start + share]).reshape(q.shape)
        statistics[part, :, 0] = greatest.reshape(-1)
        statistics[part, :, 1] = weights.sum(axis=2).reshape(-1)
    return partial, statistics


def declare(cache: DType = DType.F32) -> Kernel:
    """The kernel for KV caches of that type; all else is f32.

    For each part and query head it writes ``partial``, the values weighted by ``exp(score - greatest score)``, and
    ``statistics``, the greatest score and the sum of those weights (``-inf`` and 0 for an empty part). ``splits`` is
    the number of parts, as a constant; it must be the extent ``S``.
    """
    outputs = "partial: f32[S, H, HD], statistics: f32[S, H, 2]"
    signature = f"{parameters(cache)}, {outputs}, splits: scalar i32, pos: scalar i32"
    name = typed_name("attention_split", cache)
    return cuda_kernel("attention_split", signature, load_past, attend, launches=WHOLE_WARPS, name=name)


KERNEL = declare()
