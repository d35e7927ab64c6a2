"""Policies: which CTA takes which items.

A policy sees items and knows nothing of what they compute. It returns the order of all items in memory and where the
range of each CTA begins. All are deterministic: of equals, the one with the smaller index comes first.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np

from forerun.schedules.tasks import Integers, Items

__all__ = ["POLICIES", "Policy", "longest_first", "prefix_sums", "round_robin"]

Policy = Callable[[Items, int], tuple[Integers, Integers]]
"""From items and the number of CTAs to the order of the items ``[N]`` and the pointers of the CTAs ``[CTAs + 1]``."""


def prefix_sums(items: Items, ctas: int) -> tuple[Integers, Integers]:
    """Equal shares of the line of all work, in order: an item goes to the CTA in whose share its middle lies.

    A CTA's share is exceeded by at most one item, half at each end; after :class:`~forerun.schedules.cuts.Shares` by
    about a block and a fixed cost.

    On a device: the line is an exclusive scan, which the cut has made; each item divides; each CTA finds its range by
    binary search. ``O(items + ctas log items)``, and items of one request stay together.
    """
    middles = items.edges[:-1] + items.edges[1:]
    total = max(1, int(items.edges[-1]))
    owner = np.minimum(middles * ctas // (2 * total), ctas - 1)
    return np.arange(len(items)), np.searchsorted(owner, np.arange(ctas + 1))


def longest_first(items: Items, ctas: int) -> tuple[Integers, Integers]:
    """The item of greatest cost goes first, and always to the least loaded CTA (Graham 1969).

    The busiest CTA exceeds the mean by less than the cost of the last item that it got.

    On a device: one stable radix sort by descending cost, then one warp that keeps the loads of all CTAs in registers
    and finds the least by shuffles: ``O(items log items + items * ctas / 32)``. The second part is serial over the
    items.
    """
    loads = [(0, cta) for cta in range(ctas)]
    owner = np.empty(len(items), np.int64)
    longest = np.argsort(-items.cost, kind="stable")
    for item in longest.tolist():
        load, cta = loads[0]
        owner[item] = cta
        heapq.heapreplace(loads, (load + int(items.cost[item]), cta))
    # Within a CTA, in descending cost: the stable sort keeps it.
    order = longest[np.argsort(owner[longest], kind="stable")]
    return order, np.searchsorted(owner[order], np.arange(ctas + 1))


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
