"""Attention of one query over parts of the KV cache's rows, for :mod:`~forerun.kernels.attention_merge`.

The parts are equal shares of rows ``0`` to ``pos``, rounded up: the last ones may be smaller, or empty. The query heads
that share a KV head are taken together, so that each row is loaded once for all of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Access, BufferParameter, Kernel, Phase, Role, ScalarParameter
from forerun.ir.launches import WHOLE_WARPS
from forerun.ir.nodes import Launch
from forerun.ir.types import DType
from forerun.kernels.attention import load_past_phase, rows_up_to_pos, scores_of
from forerun.kernels.shapes import cuda, typed_name

__all__ = ["KERNEL", "attend", "declare", "launch_for"]

_WARPS = 4


def declare(cache: DType = DType.F32) -> Kernel:
    """The kernel for KV caches of that type; all else is f32.

    For each part and query head it writes ``partial``, the values weighted by ``exp(score - greatest score)``, and
    ``statistics``, the greatest score and the sum of those weights (``-inf`` and 0 for an empty part). ``splits`` is
    the number of parts, as a constant; it must be the extent ``S``.
    """
    attend_parts = Phase(
        "attend",
        reads=(Access("q"), *rows_up_to_pos()),
        uses=("past_k", "past_v"),
        scalars=("splits",),
        writes=(Access("partial"), Access("statistics")),
        reference="forerun.kernels.attention_split:attend",
    )
    return Kernel(
        typed_name("attention_split", cache),
        (
            BufferParameter("q", DType.F32, ("H", "HD"), align=16),
            BufferParameter("k_cache", cache, ("T", "KV", "HD"), align=16),
            BufferParameter("v_cache", cache, ("T", "KV", "HD"), align=16),
            BufferParameter("partial", DType.F32, ("S", "H", "HD")),
            BufferParameter("statistics", DType.F32, ("S", "H", 2)),
            ScalarParameter("splits", DType.I32),
            ScalarParameter("pos", DType.I32),
        ),
        (Role("all", (load_past_phase(), attend_parts)),),
        cuda("attention_split"),
        WHOLE_WARPS,
    )


KERNEL = declare()


def launch_for(kv_heads: int, splits: int) -> Launch:
    """One CTA a part of a KV head."""
    return Launch((kv_heads * splits, 1, 1), (32 * _WARPS, 1, 1))


def attend(
    q: NDArray[np.float32],
    k: NDArray[np.float32],
    v: NDArray[np.float32],
    past_k: NDArray[np.float32],
    past_v: NDArray[np.float32],
    splits: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
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
