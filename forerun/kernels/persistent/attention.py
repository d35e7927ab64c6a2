"""Attention of a ragged batch by one persistent kernel, which works off a schedule.

:mod:`~forerun.kernels.persistent.attention_schedule` has made the schedule before it in the graph. Its buffers are
sized by a :class:`~forerun.schedules.capacity.Capacity`; each replay may have another batch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Kernel
from forerun.ir.launches import Launches, Span
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.ir.types import DType
from forerun.kernels.shapes import Floats, cuda_kernel
from forerun.schedules.attention import TILES, Attention, AttentionBatch
from forerun.schedules.attention_runner import AttentionRunner
from forerun.schedules.capacity import Capacity
from forerun.schedules.execution import Workspace, execute
from forerun.schedules.item_times import RECORD_WORDS
from forerun.schedules.schedule import Schedule

__all__ = ["KERNEL", "attend", "attend_and_record", "buffer_shapes", "declare", "launch_for"]

Words = NDArray[np.int32]

_MOST_SHARED = 225 * 1024  # bytes: what a CTA may have on sm_90, less what is static
_MOST_SHARED_WITH_ROLES = _MOST_SHARED + 512
_WARPS, _WARPS_WITH_ROLES = 8, 16

_BATCH = "query_pointers: i32[_], kv_lengths: i32[_], page_pointers: i32[_], pages: i32[_]"
_SCHEDULE = "status: i32[2], counts: i32[3], pointers: i32[B], items: i32[_, 8] align 16, counters: i32[K, 2]"
_WORKSPACE = "arrived: i32[K], partial: f32[S, M, HD] align 16, statistics: f32[S, M, 2]"


def launch_for(capacity: Capacity) -> Launch:
    """One CTA for each share of a work list, with rings in all the shared memory of an SM.

    With two work lists, some requests prefill: then one warpgroup executes tiles of 16 rows, and at the same time two
    more compute those of 64 and 128 rows, which a fourth one loads.
    """
    if capacity.lines == 2:
        return Launch((capacity.ctas // 2, 1, 1), (32 * _WARPS_WITH_ROLES, 1, 1), _MOST_SHARED_WITH_ROLES)
    return Launch((capacity.ctas, 1, 1), (32 * _WARPS, 1, 1), _MOST_SHARED)


def buffer_shapes(family: Attention, capacity: Capacity) -> dict[str, tuple[int, ...]]:
    """The shapes of the buffers that are not the schedule's, by parameter.

    ``arrived`` is state that is 0 before the first replay; each replay leaves it 0.
    """
    slots, rows = max(1, capacity.partials), TILES[-1]
    cache = (family.cache_pages, family.page_size, family.kv_heads, family.head_size)
    return {
        "q": (capacity.rows, family.heads, family.head_size),
        "k_cache": cache,
        "v_cache": cache,
        "arrived": (max(1, capacity.counters),),
        "partial": (slots, rows, family.head_size),
        "statistics": (slots, rows, 2),
        "y": (capacity.rows, family.heads, family.head_size),
    }


@phase(writes="y, partial, statistics, arrived")
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
) -> tuple[Floats, Floats, Floats, Words]:
    """The results of all rows that requests have; what else is written is NaN, or as it was.

    The partial results are in the workspace of the reference, not here.
    """
    cache_pages, page_size, kv_heads, head_size = k_cache.shape
    family = Attention(q.shape[1], kv_heads, head_size, page_size, cache_pages)
    capacity = Capacity(len(kv_lengths), len(q), len(pages), len(pointers) - 1, len(items), int(slots))
    schedule = Schedule(status, counts, pointers, items, counters, capacity)
    partial = np.full((int(slots), TILES[-1], head_size), np.nan, np.float32)
    statistics = np.full((int(slots), TILES[-1], 2), np.nan, np.float32)
    if schedule.finding.status.is_error:
        return np.full(q.shape, np.nan, q.dtype), partial, statistics, arrived.copy()
    # How many requests there are does not matter to who has the schedule: the largest owner is behind all others.
    requests = max((item.owner for item in schedule.all_items()), default=-1) + 1
    batch = AttentionBatch(requests, query_pointers, kv_lengths, page_pointers, pages)
    runner = AttentionRunner(family, batch, *(x.astype(np.float32) for x in (q, k_cache, v_cache)))
    execute(schedule, runner, Workspace(capacity, runner.slot_floats), choose=lambda events: 0)
    return runner.y.astype(q.dtype), partial, statistics, arrived.copy()


@phase(writes="y, partial, statistics, arrived, records", name="attend")
def attend_and_record(
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
) -> tuple[Floats, Floats, Floats, Words, NDArray[np.int64]]:
    """What :func:`attend` returns, and when the items begin and end.

    Here they follow one another, each takes a nanosecond, and each CTA has an SM of its own.
    """
    batch = query_pointers, kv_lengths, page_pointers, pages
    found = attend(q, k_cache, v_cache, *batch, status, counts, pointers, items, counters, arrived, slots)
    records = np.zeros((len(items), RECORD_WORDS), np.int64)
    count = int(counts[0])
    numbers = np.arange(1, count + 1)
    ctas = np.searchsorted(pointers, numbers - 1, side="right") - 1
    records[:count] = np.stack((numbers, numbers + 1, ctas, ctas), axis=1)
    return *found, records


def declare(dtype: DType = DType.BF16, *, recorded: bool = False) -> Kernel:
    """The kernel for queries, KV cache and results of that type, bf16 or f16; sums are f32.

    ``slots`` is the number of slots, as a constant; it must be the extent ``S``. ``partial`` has for each split of a
    task the values weighted by ``2 ** (score - greatest score)``, ``statistics`` that greatest score and the sum of the
    weights. ``arrived`` counts the splits of a task that are there.

    With ``recorded`` it has ``records``, too, where it writes when each item began and ended, for
    :func:`~forerun.schedules.item_times.item_times`. Without it there is no such code.
    """
    cache = f"{dtype}[N, PS, KV, HD] align 16"
    values = f"q: {dtype}[Q, H, HD] align 16, k_cache: {cache}, v_cache: {cache}"
    schedule = _SCHEDULE.replace("i32[_, 8]", "i32[I, 8]") if recorded else _SCHEDULE
    signature = f"{values}, {_BATCH}, {schedule}, {_WORKSPACE}, y: {dtype}[Q, H, HD] align 16, slots: scalar i32"
    if recorded:
        signature += f", records: i64[I, {RECORD_WORDS}]"
    launches = Launches(block=Span(32, 512, 32), shared=Span(16 * 1024, 227 * 1024), cluster=Span(1, 1))
    name = f"attention_persistent_{dtype}" + ("_recorded" if recorded else "")
    run = attend_and_record if recorded else attend
    return cuda_kernel("attention_persistent", signature, run, launches=launches, name=name)


KERNEL = declare()
