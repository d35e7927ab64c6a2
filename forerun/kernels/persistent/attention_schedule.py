"""The schedule of a batch of attention on the device: what :func:`~forerun.schedules.schedule.make_schedule` makes.

Each CTA of the grid makes it in shared memory; the first one writes where the items of each share begin, the others
write the items. What is behind the actual counts has no effect and is not written, and a bad batch gives a status word
and a schedule with nothing to do. ``Shares``, ``Invariant`` and ``Whole`` are the rules of cuts that it knows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Kernel
from forerun.ir.launches import Launches, Span
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.kernels.shapes import cuda_kernel
from forerun.schedules.attention import TILES, Attention, AttentionBatch
from forerun.schedules.capacity import Capacity
from forerun.schedules.cuts import CutRule, Invariant, Shares, Whole
from forerun.schedules.policies import CLASSES, POLICIES
from forerun.schedules.schedule import make_schedule, rule_within
from forerun.schedules.tasks import Costs
from forerun.support.diagnostics import InvalidInput

__all__ = ["KERNEL", "buffer_shapes", "declare", "launch_for", "plan", "scalars_of", "write"]

Words = NDArray[np.int32]

_MOST_SHARED = 216 * 1024  # bytes: what a CTA may have on sm_90, less what is static
_MOST_CTAS = 1024  # each border between their shares has a thread, and a CTA's number ten bits
_POLICIES = tuple(POLICIES)
_UNSPLIT, _WHOLE, _SHARES = -2, -1, 0  # values of `cuts`; others are positions of a chunk
_CTAS = 9

_BATCH = "requests: i32[1], query_pointers: i32[_], kv_lengths: i32[R], page_pointers: i32[_], pages: i32[P] align 16"
_SCHEDULE = "status: i32[2], counts: i32[3], pointers: i32[B], items: i32[I, 8] align 16, counters: i32[K, 2]"
_SCALARS = (
    *("group", "kv_heads", "page_size", "cache_pages", "rows"),
    *("partials", "ctas", "most_items", "lines", "cuts", "policy"),
    *(f"{part}_{tile}" for tile in TILES for part in ("fixed", "block")),
)
_SIGNATURE = ", ".join((_BATCH, *(f"{name}: scalar i32" for name in _SCALARS), _SCHEDULE))


def buffer_shapes(capacity: Capacity) -> dict[str, tuple[int, ...]]:
    """The shapes of the kernel's buffers, by parameter. A schedule without counters has room for one.

    Raises:
        InvalidInput: If the capacity has no pages.
    """
    if not capacity.pages:
        raise InvalidInput("a schedule of attention needs a capacity with pages")
    return {
        "requests": (1,),
        "query_pointers": (capacity.requests + 1,),
        "kv_lengths": (capacity.requests,),
        "page_pointers": (capacity.requests + 1,),
        "pages": (capacity.pages,),
        **capacity.schedule_shapes,
    }


def scalars_of(
    family: Attention, capacity: Capacity, policy: str = "prefix-sums", cuts: CutRule | None = None
) -> dict[str, int]:
    """The kernel's scalars.

    Args:
        family: What the batch is a batch of.
        capacity: What the arrays are sized for.
        policy: A name of :data:`~forerun.schedules.policies.POLICIES`.
        cuts: ``Shares()`` by default, ``Whole()``, or ``Invariant(...)``.

    Raises:
        InvalidInput: If the policy is unknown, the rule of cuts is not made on the device, or packed rows are too many.
    """
    if capacity.rows * family.group >= 2**31 - 128:
        raise InvalidInput(f"a schedule on the device has at most 2^31 packed rows, not {capacity.rows * family.group}")
    if policy not in POLICIES:
        raise InvalidInput(f"unknown policy {policy!r}", hint=f"choose one of {', '.join(POLICIES)}")
    found = {
        "group": family.group,
        "kv_heads": family.kv_heads,
        "page_size": family.page_size,
        "cache_pages": family.cache_pages,
        "rows": capacity.rows,
        "partials": capacity.partials,
        "ctas": capacity.ctas,
        "most_items": capacity.items,
        "lines": capacity.lines,
        "cuts": _number_of(cuts or Shares(), family, capacity),
        "policy": _POLICIES.index(policy),
    }
    for tile in TILES:
        found |= {f"fixed_{tile}": family.costs[tile].fixed, f"block_{tile}": family.costs[tile].per_block}
    return found


def _number_of(cuts: CutRule, family: Attention, capacity: Capacity) -> int:
    match cuts:
        case Shares():
            return _SHARES
        case Whole():
            return _WHOLE
        case Invariant(chunk):
            return chunk if rule_within(cuts, family, capacity) is cuts else _UNSPLIT
        case _:
            raise InvalidInput(f"{cuts!r} is not made on the device", hint="Shares, Whole and Invariant are")


def _rule_of(cuts: int) -> CutRule:
    rules: dict[int, CutRule] = {_SHARES: Shares(), _WHOLE: Whole()}
    # What has no room for some rule that is batch-invariant has none for the finest one.
    return rules.get(cuts) or Invariant(max(1, cuts))


def launch_for(capacity: Capacity, scalars: Mapping[str, int]) -> Launch:
    """A few CTAs, each with shared memory for the largest batch.

    Raises:
        InvalidInput: If a CTA has too little of it, or the schedule is one of more than 1,024 CTAs.
    """
    if capacity.ctas > _MOST_CTAS:
        raise InvalidInput(f"a schedule on the device is one of at most {_MOST_CTAS} CTAs, not of {capacity.ctas}")
    tiles = capacity.items // scalars["kv_heads"]
    requests = capacity.requests
    words = [requests, requests, requests + 1, tiles, 2 * (tiles + 1)]
    if scalars["lines"] == 2:
        words.append(requests)
    if scalars["cuts"] > 0:
        words += [2 * (tiles + 1), tiles + 1, tiles + 1, tiles + 1]
    if _POLICIES[scalars["policy"]] == "longest-first":
        items, ctas = capacity.items, capacity.ctas
        words += [2 * items, 2 * (items + 1), CLASSES * -(-items // 32) + 1, CLASSES * ctas, ctas]
    needed = sum(-(-count // 2) * 8 for count in words)
    if needed > _MOST_SHARED:
        hint = f"it would need {needed} bytes of shared memory, of {_MOST_SHARED}"
        raise InvalidInput("the capacity is too large for a schedule that is made on the device", hint=hint)
    most = max(capacity.requests, capacity.ctas)
    threads = 256 if most <= 256 else 512 if capacity.ctas <= 512 else 1024
    return Launch((_CTAS, 1, 1), (threads, 1, 1), needed)


@phase(defines="made_status, made_counts, made_pointers, made_items, made_counters")
def plan(
    requests: Words,
    query_pointers: Words,
    kv_lengths: Words,
    page_pointers: Words,
    pages: Words,
    group: int,
    kv_heads: int,
    page_size: int,
    cache_pages: int,
    rows: int,
    partials: int,
    ctas: int,
    most_items: int,
    lines: int,
    cuts: int,
    policy: int,
    fixed_16: int,
    block_16: int,
    fixed_64: int,
    block_64: int,
    fixed_128: int,
    block_128: int,
) -> tuple[Words, Words, Words, Words, Words]:
    """The arrays of a :class:`~forerun.schedules.schedule.Schedule`."""
    pairs = (fixed_16, block_16), (fixed_64, block_64), (fixed_128, block_128)
    costs = {tile: Costs(*map(int, pair)) for tile, pair in zip(TILES, pairs, strict=True)}
    family = Attention(int(group * kv_heads), int(kv_heads), 1, int(page_size), int(cache_pages), costs)
    sizes = int(ctas), int(most_items), int(partials), int(lines)
    capacity = Capacity(len(kv_lengths), int(rows), len(pages), *sizes)
    batch = AttentionBatch(int(requests[0]), query_pointers, kv_lengths, page_pointers, pages)
    found = make_schedule(family, batch, capacity, POLICIES[_POLICIES[int(policy)]], _rule_of(int(cuts)))
    counters = np.resize(found.counters, (max(1, capacity.counters), 2))
    return found.status, found.counts, found.pointers, found.items, counters


@phase(writes="status, counts, pointers, items, counters")
def write(
    made_status: Words, made_counts: Words, made_pointers: Words, made_items: Words, made_counters: Words
) -> tuple[Words, Words, Words, Words, Words]:
    """What has been made, in memory."""
    return made_status, made_counts, made_pointers, made_items, made_counters


def declare(scalars: Mapping[str, int]) -> Kernel:
    """The kernel for the rule of cuts, the policy and the lines of these scalars."""
    parts = ["attention_schedule"]
    if scalars["cuts"] > 0:
        parts.append("by_request")
    if _POLICIES[scalars["policy"]] == "longest-first":
        parts.append("longest_first")
    if scalars["lines"] == 2:
        parts.append("two_lines")
    launches = Launches(block=Span(32, 1024, 32), cluster=Span(1, 1))
    return cuda_kernel("_".join(parts), _SIGNATURE, plan, write, launches=launches)


KERNEL = declare({"cuts": _SHARES, "policy": _POLICIES.index("prefix-sums"), "lines": 1})
