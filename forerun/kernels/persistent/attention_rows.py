"""The persistent attention kernel with the rows of the batch as its bounds: what ``fuse-persistent`` puts into graphs.

:mod:`~forerun.kernels.persistent.attention` may leave anything in rows that no request has, so it declares that it
writes them all. This one takes the ends of the batch from its index pointer, and reads and writes no other rows: what
stands there stays. If the schedule's status is an error, nothing is written (docs/schedules.md).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Kernel, ScalarParameter
from forerun.ir.phases import kernel, phase
from forerun.ir.types import DType
from forerun.kernels.persistent import attention
from forerun.kernels.shapes import Floats, cuda

__all__ = ["KERNEL", "attend", "declare"]

Words = NDArray[np.int32]

_BATCH = "query_pointers, kv_lengths, page_pointers, pages"
_SCHEDULE = "status, counts, pointers, items, counters"


@phase(
    reads=f"q[begin:end], k_cache, v_cache, {_BATCH}, {_SCHEDULE}, arrived",
    writes="y[begin:end], partial, statistics, arrived",
)
def attend(
    q: Floats,
    k_cache: Floats,
    v_cache: Floats,
    query_pointers: Words,
    kv_lengths: Words,
    page_pointers: Words,
    pages: Words,
    status: Words,
    counts: Words,
    pointers: Words,
    items: Words,
    counters: Words,
    arrived: Words,
    slots: int,
    begin: int,
    end: int,
) -> tuple[Floats, Floats, Floats, Words]:
    """The results of the rows from ``begin`` to ``end``, which are those that requests have; NaN where none is made.

    The partial results are in the workspace of the reference, not here.
    """
    rows = np.full((max(int(end), 1), *q.shape[1:]), np.nan, q.dtype)
    rows[int(begin) : int(end)] = q
    schedule = status, counts, pointers, items, counters, arrived
    batch = query_pointers, kv_lengths, page_pointers, pages
    y, partial, statistics, arrived = attention.attend(rows, k_cache, v_cache, *batch, *schedule, slots)
    return y[int(begin) : int(end)], partial, statistics, arrived


def declare(dtype: DType = DType.BF16) -> Kernel:
    """The kernel for queries, KV cache and results of that type.

    Its parameters are those of :func:`forerun.kernels.persistent.attention.declare`, and behind them ``begin`` and
    ``end``: the first element of ``query_pointers``, and the one of the last request's end, loaded as scalars.
    """
    known = attention.declare(dtype)
    ends = (ScalarParameter(name, DType.I32) for name in ("begin", "end"))
    code = (cuda("attention_persistent_rows"),)
    name = f"attention_persistent_rows_{dtype}"
    return kernel(name, (*known.parameters, *ends), attend, implementations=code, launches=known.launches)


KERNEL = declare()
