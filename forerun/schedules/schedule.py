"""The schedule of a batch: flat int32 arrays that a persistent kernel reads, sized by the capacity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from forerun.schedules.capacity import ITEM_FIELDS, Bounds, Capacity
from forerun.schedules.cuts import CutRule, Whole, rule_of
from forerun.schedules.policies import Policy, prefix_sums
from forerun.schedules.status import Finding, Status
from forerun.schedules.tasks import Family, Items, Tasks
from forerun.support.diagnostics import InvalidInput

__all__ = ["POISON", "Item", "Schedule", "Words", "capacity_for", "make_schedule", "rule_within"]

Words = NDArray[np.int32]

_Batch = TypeVar("_Batch")

POISON = int(np.iinfo(np.int32).min)
"""What stands behind the actual counts: no kernel may read it."""

_MOST_WORK = 2.0**40


class Item(NamedTuple):
    """The words of an item, in their order in memory.

    Attributes:
        owner: The request, or the expert.
        lane: What an owner has several of: the KV head, the group of rows.
        tile: The tile of the output within the lane.
        size: The rows of the tile.
        begin: The first position of the long axis.
        end: The position behind the last one.
        slot: Where the partial result goes, or -1 where the task is one item, which writes the result itself.
        counter: Which counter counts it, or -1.
    """

    owner: int
    lane: int
    tile: int
    size: int
    begin: int
    end: int
    slot: int
    counter: int


@dataclass(frozen=True, eq=False)
class Schedule:
    """What each CTA does, in the memory of a captured graph. Everything behind the actual counts is ``POISON``.

    Attributes:
        status: A :class:`~forerun.schedules.status.Status`, and the request that it is about or -1 ``[2]``.
        counts: Items, slots and counters in use ``[3]``.
        pointers: Where the items of each CTA begin, and at the end their number ``[CTAs + 1]``.
        items: The items, in the order of CTAs ``[items, 8]``; :class:`Item` has their words.
        counters: For each counter the first slot of its task, and its number of splits ``[counters, 2]``. The slots of
            a task follow each other in the order of the long axis.
        capacity: What the arrays are sized for.
    """

    status: Words
    counts: Words
    pointers: Words
    items: Words
    counters: Words
    capacity: Capacity

    @property
    def finding(self) -> Finding:
        """The status word, as the host reads it."""
        return Finding(Status(int(self.status[0])), int(self.status[1]))

    def of_cta(self, cta: int) -> list[Item]:
        """The items of one CTA, in its order."""
        return _items(self.items[self.pointers[cta] : self.pointers[cta + 1]])

    def all_items(self) -> list[Item]:
        """All items, in the order of CTAs."""
        return _items(self.items[: self.counts[0]])


def capacity_for(
    family: Family[_Batch], requests: int, rows: int, pages: int = 0, ctas: int = 132, cuts: CutRule | None = None
) -> Capacity:
    """The capacity with room for every batch of that many requests, rows and pages, however it is cut by ``cuts``.

    It has one share of each work list for each of the kernel's ``ctas``.

    Raises:
        InvalidInput: If a number is out of range.
    """
    smallest = Capacity(requests, rows, pages, ctas, items=1, partials=0)
    bounds = family.bounds(smallest)
    if not isinstance(bounds, Bounds):
        raise InvalidInput(f"bounds() of the family must return Bounds, not {type(bounds).__name__}")
    shares = ctas * bounds.lines
    extra, partials = rule_of(cuts).room(bounds, shares)
    return Capacity(requests, rows, pages, shares, bounds.tasks + extra, partials, bounds.lines)


def make_schedule(
    family: Family[_Batch],
    batch: _Batch,
    capacity: Capacity,
    policy: Policy = prefix_sums,
    cuts: CutRule | None = None,
) -> Schedule:
    """The schedule of a batch; with a status word, and nothing to do, where something is wrong with the batch.

    Splits that do not fit the capacity are not made: the batch runs with whole tasks, and the status is ``UNSPLIT``.

    Args:
        family: What the batch is a batch of.
        batch: The batch.
        capacity: What the arrays are sized for.
        policy: Which CTA takes which items.
        cuts: How tasks are cut, :class:`~forerun.schedules.cuts.Shares` by default.

    Raises:
        InvalidInput: If the arrays do not fit the capacity, the family's tasks are not such arrays, or the policy
            returns arrays of other shapes.
    """
    wanted, found = rule_of(cuts), family.check(batch, capacity)
    if not isinstance(found, Finding):
        raise InvalidInput(f"check() of the family must return a Finding, not {type(found).__name__}")
    if found.status.is_error:
        return _nothing(capacity, found)
    tasks = family.tasks(batch)
    if not isinstance(tasks, Tasks):
        raise InvalidInput(f"tasks() of the family must return Tasks, not {type(tasks).__name__}")
    tasks.require_valid()
    tasks = tasks.on_lines(capacity.lines)
    if tasks.cost.sum(dtype=np.float64) > _MOST_WORK:
        return _nothing(capacity, Finding(Status.TOO_MUCH_WORK))
    rule = rule_within(wanted, family, capacity)
    items = rule.cut(tasks, capacity.ctas)
    if not _fits(items, capacity):
        rule = Whole()
        items = rule.cut(tasks, capacity.ctas)
    if len(items) > capacity.items:
        return _nothing(capacity, Finding(Status.TOO_MANY_ITEMS))
    unsplit = isinstance(rule, Whole) and not isinstance(wanted, Whole)
    return _written(tasks, items, policy, capacity, Finding(Status.UNSPLIT) if unsplit else found)


def rule_within(cuts: CutRule, family: Family[_Batch], capacity: Capacity) -> CutRule:
    """The rule that holds for all batches: one that is batch-invariant cuts nothing where its worst case has no room.

    Otherwise another request could decide whether there is room, and with it the bits of this one.
    """
    bounds = family.bounds(capacity)
    extra, partials = cuts.room(bounds, capacity.ctas)
    has_room = bounds.tasks + extra <= capacity.items and partials <= capacity.partials
    return cuts if has_room or not cuts.is_invariant else Whole()


def _items(words: Words) -> list[Item]:
    return [Item(*row) for row in words.tolist()]


def _splits(items: Items) -> NDArray[np.int64]:
    """The number of splits of the task of each item."""
    return np.bincount(items.task)[items.task] if len(items) else items.task


def _fits(items: Items, capacity: Capacity) -> bool:
    return len(items) <= capacity.items and int(np.count_nonzero(_splits(items) > 1)) <= capacity.partials


def _empty(capacity: Capacity, found: Finding, counts: tuple[int, int, int]) -> Schedule:
    """Arrays of the capacity's sizes, full of poison but for the status and the counts."""

    def poisoned(*shape: int) -> Words:
        return np.full(shape, POISON, np.int32)

    status = np.array([found.status, found.where], np.int32)
    tables = poisoned(capacity.items, ITEM_FIELDS), poisoned(capacity.counters, 2)
    return Schedule(status, np.array(counts, np.int32), poisoned(capacity.ctas + 1), *tables, capacity)


def _nothing(capacity: Capacity, found: Finding) -> Schedule:
    schedule = _empty(capacity, found, (0, 0, 0))
    schedule.pointers[:] = 0
    return schedule


def _dealt(policy: Policy, items: Items, capacity: Capacity) -> list[NDArray[np.int64]]:
    """What a policy returns, as arrays."""
    if not callable(policy):
        raise InvalidInput(f"{policy!r} is not a policy", hint="forerun.schedules.policies.POLICIES has them by name")
    dealt = policy(items, capacity.ctas)
    arrays = [np.asarray(array) for array in dealt] if isinstance(dealt, tuple) else []
    if len(arrays) != 2 or not all(np.issubdtype(array.dtype, np.integer) for array in arrays):
        raise InvalidInput("the policy must return two arrays of integers: the order of the items, and pointers")
    return arrays


def _written(tasks: Tasks, items: Items, policy: Policy, capacity: Capacity, found: Finding) -> Schedule:
    """The arrays. Slots and counters are two exclusive scans over the items, before the policy orders them."""
    task, splits = items.task, _splits(items)
    is_split, is_first = splits > 1, items.begin == 0
    slot = np.cumsum(is_split) - 1
    counter = np.cumsum(is_split & is_first) - 1
    order, pointers = _dealt(policy, items, capacity)
    if np.shape(order) != (len(items),) or np.shape(pointers) != (capacity.ctas + 1,):
        wanted = f"an order of {len(items)} items and {capacity.ctas + 1} pointers"
        raise InvalidInput(f"the policy must return {wanted}, not {np.shape(order)} and {np.shape(pointers)}")
    if len(items) and not 0 <= np.min(order) <= np.max(order) < len(items):
        raise InvalidInput(f"the policy must order items 0 to {len(items) - 1}, not {np.min(order)} to {np.max(order)}")
    first = is_split & is_first
    counts = len(items), int(is_split.sum()), int(first.sum())
    schedule = _empty(capacity, found, counts)
    schedule.pointers[:] = pointers
    schedule.counters[: counts[2]] = np.stack((slot[first], splits[first]), axis=1)
    words = (
        tasks.owner[task],
        tasks.lane[task],
        tasks.tile[task],
        tasks.size[task],
        items.begin * tasks.block[task],
        np.minimum(items.end * tasks.block[task], tasks.length[task]),
        np.where(is_split, slot, -1),
        np.where(is_split, counter, -1),
    )
    schedule.items[: counts[0]] = np.stack(words, axis=1)[order]
    return schedule
