"""Policies: which CTA takes which items.

A policy sees items and knows nothing of what they compute. It returns the order of all items in memory and where the
range of each CTA begins. All are deterministic: of equals, the one with the smaller index comes first.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from forerun.schedules.tasks import Integers, Items

__all__ = ["CLASSES", "POLICIES", "Policy", "classes_of", "longest_first", "prefix_sums", "round_robin"]

CLASSES = 32
"""Classes of costs of :func:`longest_first`."""

Policy = Callable[[Items, int], tuple[Integers, Integers]]
"""From items and the number of CTAs to the order of the items ``[N]`` and the pointers of the CTAs ``[CTAs + 1]``."""


def prefix_sums(items: Items, ctas: int) -> tuple[Integers, Integers]:
    """Equal shares of the line of all work, in order: an item goes to the CTA in whose share its middle lies.

    With two work lists, each is dealt to half of the CTAs.

    A CTA's share is exceeded by at most one item, half at each end; after :class:`~forerun.schedules.cuts.Shares` by
    about a block and a fixed cost.

    On a device: the line is an exclusive scan, which the cut has made; each item divides; each CTA finds its range by
    binary search. ``O(items + ctas log items)``, and items of one request stay together.
    """
    middles, total = items.edges[:-1] + items.edges[1:], int(items.edges[-1])
    if items.second is None:
        owner = _share_at(middles, ctas, total)
    else:
        half, second = ctas // 2, items.second
        on_second = half + _share_at(middles - 2 * second, half, total - second)
        owner = np.where(items.edges[:-1] < second, _share_at(middles, half, second), on_second)
    return np.arange(len(items)), np.searchsorted(owner, np.arange(ctas + 1))


def _share_at(twice: Integers, shares: int, total: int) -> Integers:
    """The equal share of a line of that length in which each place lies; places are passed times two."""
    found: Integers = np.minimum(twice * shares // (2 * max(1, total)), shares - 1)
    return found


def longest_first(items: Items, ctas: int) -> tuple[Integers, Integers]:
    """The items of greatest cost go first, each to the least loaded CTA (Graham 1969), with costs in classes.

    A class has the costs of a quarter of an octave; the last of the 32 has all that are cheaper. Its items count as
    their mean, and loads as they are, in 32nds of that mean. So a CTA's last item came when it had the least load, by
    these costs, and it exceeds the mean of all CTAs by less than that item and a quarter of what it has of its class.
    Which items of a class a CTA gets does not matter then: CTAs get consecutive ones, in an order in which those that
    get one more are not neighbours, since neighbours share a path to memory. With two work lists, each has half of the
    classes and of the CTAs.

    On a device: a counting sort by class; for each class the level up to which all CTAs get items, by bisection, and
    those that get one more, by a counting sort of the loads; then one exclusive scan. ``O(items + classes * ctas)``,
    and serial over the classes only.
    """
    if items.second is None:
        order, owner = _dealt_by_class(items.cost, ctas, CLASSES)
    else:
        half, first = ctas // 2, int(np.count_nonzero(items.edges[:-1] < items.second))
        order, owner = _dealt_by_class(items.cost[:first], half, CLASSES // 2)
        more, others = _dealt_by_class(items.cost[first:], half, CLASSES // 2)
        order, owner = np.append(order, first + more), np.append(owner, half + others)
    order = order[np.argsort(owner[order], kind="stable")]
    return order, np.searchsorted(owner[order], np.arange(ctas + 1))


def _dealt_by_class(costs: Integers, ctas: int, classes: int) -> tuple[Integers, Integers]:
    """The items in the order of their classes, and the CTA of each item."""
    kind = classes_of(costs, classes)
    order = np.argsort(kind, kind="stable")
    owner = np.empty(len(costs), np.int64)
    loads = np.zeros(ctas, np.int64)
    for mine in np.split(order, np.flatnonzero(np.diff(kind[order])) + 1) if len(order) else ():
        mean = -(-int(costs[mine].sum()) // len(mine))
        owner[mine] = np.repeat(np.arange(ctas), _least_loaded(loads, len(mine), mean))
        np.add.at(loads, owner[mine], costs[mine])
    return order, _places(ctas)[owner]


def _places(ctas: int) -> Integers:
    """The CTA at each place: about 0.62 of all CTAs lie between neighbours, in steps that reach all."""
    stride = ctas * 21 // 34 + 1
    while math.gcd(stride, ctas) > 1:
        stride += 1
    return np.arange(ctas) * stride % ctas


def classes_of(costs: Integers, classes: int = CLASSES) -> Integers:
    """The class of each cost ``[N]``: 0 for the dearest, four an octave, the last one for all that are cheaper.

    Example:
        >>> classes_of(np.array([80, 79, 63, 64, 1])).tolist()
        [0, 1, 2, 1, 25]
    """
    octave = np.frexp(costs.astype(np.float64))[1].astype(np.int64) - 1
    part = np.where(octave >= 2, costs >> np.maximum(octave - 2, 0), costs << np.maximum(2 - octave, 0)) & 3
    number = 4 * octave + part
    found: Integers = np.minimum(number.max(initial=0) - number, classes - 1)
    return found


def _least_loaded(loads: Integers, count: int, cost: int) -> Integers:
    """How many of ``count`` items of one cost each CTA gets ``[CTAs]``, if each goes to the least loaded one."""
    units = np.minimum(32 * (loads - loads.min()) // cost, 32 * (count + 1))
    whole, part = units // 32, units % 32
    low, high = 0, count
    while low < high:
        middle = low + (high - low + 1) // 2
        if np.maximum(0, middle - whole).sum() <= count:
            low = middle
        else:
            high = middle - 1
    given: Integers = np.maximum(0, low - whole)
    below = np.flatnonzero(whole <= low)
    given[below[np.argsort(part[below], kind="stable")][: count - given.sum()]] += 1
    return given


def round_robin(items: Items, ctas: int) -> tuple[Integers, Integers]:
    """Item ``i`` goes to CTA ``i % ctas``, whatever it costs: the control.

    On a device: no pass at all; a kernel would stride. ``O(items)`` here, for the order in memory.
    """
    owner = np.arange(len(items)) % ctas
    order = np.argsort(owner, kind="stable")
    return order, np.searchsorted(owner[order], np.arange(ctas + 1))


POLICIES: dict[str, Policy] = {
    "prefix-sums": prefix_sums,
    "longest-first": longest_first,
    "round-robin": round_robin,
}
"""The policies by name."""
