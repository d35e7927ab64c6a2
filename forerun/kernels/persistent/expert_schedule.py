"""The schedule of a batch of rows of experts, which a kernel makes on the device.

Its arrays are those of :func:`~forerun.schedules.schedule.make_schedule` for
:class:`~forerun.schedules.expert_gemv.ExpertGemv`. Cuts change no result, so ``Shares`` and ``Whole`` are the rules
that it knows; tasks cost the same, so none goes first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.launches import Launches, Span
from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.kernels.shapes import cuda_kernel
from forerun.schedules.capacity import Capacity
from forerun.schedules.cuts import CutRule, Shares, Whole
from forerun.schedules.expert_gemv import ExpertBatch, ExpertGemv
from forerun.schedules.policies import POLICIES
from forerun.schedules.schedule import make_schedule
from forerun.schedules.tasks import Costs
from forerun.support.diagnostics import InvalidInput

__all__ = ["KERNEL", "buffer_shapes", "launch_for", "plan", "scalars_of", "write"]

Words = NDArray[np.int32]

_MOST_EXPERTS, _MOST_CTAS = 8192, 1024
_NAMES = tuple(POLICIES)
_POLICIES = ("prefix-sums", "round-robin")
_SHARES, _WHOLE = 0, -1  # values of `cuts`
_CTAS = 4

_SCALARS = (
    *("outputs", "columns", "rows", "partials", "ctas", "most_items", "cuts", "policy"),
    *("fixed", "per_block"),
)
_SCHEDULE = "status: i32[2], counts: i32[3], pointers: i32[B], items: i32[I, 8] align 16, counters: i32[K, 2]"
_SIGNATURE = ", ".join(("row_pointers: i32[R]", *(f"{name}: scalar i32" for name in _SCALARS), _SCHEDULE))


def buffer_shapes(family: ExpertGemv, capacity: Capacity) -> dict[str, tuple[int, ...]]:
    """The shapes of the kernel's buffers, by parameter. A schedule without counters has room for one."""
    return {
        "row_pointers": (family.experts + 1,),
        **capacity.schedule_shapes,
    }


def scalars_of(
    family: ExpertGemv, capacity: Capacity, policy: str = "prefix-sums", cuts: CutRule | None = None
) -> dict[str, int]:
    """The kernel's scalars.

    Args:
        family: What the batch is a batch of.
        capacity: What the arrays are sized for.
        policy: ``prefix-sums`` or ``round-robin``.
        cuts: ``Shares()`` by default, or ``Whole()``.

    Raises:
        InvalidInput: If the policy or the rule of cuts is not made on the device.
    """
    if policy not in _POLICIES:
        raise InvalidInput(f"policy {policy!r} is not made for experts", hint=f"{' and '.join(_POLICIES)} are")
    if cuts not in (None, Shares(), Whole()):
        raise InvalidInput(f"{cuts!r} is not made for experts", hint="Shares and Whole are")
    return {
        "outputs": family.outputs,
        "columns": family.columns,
        "rows": capacity.rows,
        "partials": capacity.partials,
        "ctas": capacity.ctas,
        "most_items": capacity.items,
        "cuts": _WHOLE if cuts == Whole() else _SHARES,
        "policy": _NAMES.index(policy),
        "fixed": family.costs.fixed,
        "per_block": family.costs.per_block,
    }


def launch_for(family: ExpertGemv, capacity: Capacity) -> Launch:
    """A few CTAs, each with a thread for each CTA of the schedule.

    Raises:
        InvalidInput: If there are more than 8,192 experts, or the schedule is one of more than 1,024 CTAs.
    """
    if family.experts > _MOST_EXPERTS or capacity.ctas > _MOST_CTAS:
        hint = f"at most {_MOST_EXPERTS} experts, and {_MOST_CTAS} CTAs"
        raise InvalidInput("the capacity is too large for a schedule that is made on the device", hint=hint)
    threads = 256 if capacity.ctas <= 256 else 512 if capacity.ctas <= 512 else 1024
    return Launch((_CTAS, 1, 1), (threads, 1, 1), 16 * (family.experts + 1))


@phase(defines="made_status, made_counts, made_pointers, made_items, made_counters")
def plan(
    row_pointers: Words,
    outputs: int,
    columns: int,
    rows: int,
    partials: int,
    ctas: int,
    most_items: int,
    cuts: int,
    policy: int,
    fixed: int,
    per_block: int,
) -> tuple[Words, Words, Words, Words, Words]:
    """The arrays of a :class:`~forerun.schedules.schedule.Schedule`."""
    experts = len(row_pointers) - 1
    family = ExpertGemv(experts, int(outputs), int(columns), Costs(int(fixed), int(per_block)))
    capacity = Capacity(experts, int(rows), 0, int(ctas), int(most_items), int(partials))
    rule = Shares() if cuts == _SHARES else Whole()
    found = make_schedule(family, ExpertBatch(row_pointers), capacity, POLICIES[_NAMES[int(policy)]], rule)
    counters = np.resize(found.counters, (max(1, capacity.counters), 2))
    return found.status, found.counts, found.pointers, found.items, counters


@phase(writes="status, counts, pointers, items, counters")
def write(
    made_status: Words, made_counts: Words, made_pointers: Words, made_items: Words, made_counters: Words
) -> tuple[Words, Words, Words, Words, Words]:
    """What has been made, in memory."""
    return made_status, made_counts, made_pointers, made_items, made_counters


KERNEL = cuda_kernel(
    "expert_schedule", _SIGNATURE, plan, write, launches=Launches(block=Span(32, 1024, 32), cluster=Span(1, 1))
)
