"""Orders with the fewest splits: maximal runs of nodes of one place."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import TypeAlias, assert_never

from forerun.ir import nodes
from forerun.ir.graph import Graph
from forerun.ir.types import Place

__all__ = ["Sources", "count_splits", "fewest_splits", "place_of", "splits"]

Sources: TypeAlias = Mapping[str, Iterable[str]]
"""For each node, the nodes that come before it."""

Places: TypeAlias = Mapping[str, Place | None]
"""The place of each node; ``None`` for one that belongs to any split."""


def place_of(graph: Graph, node: nodes.Node) -> Place | None:
    """The place whose splits a node belongs to.

    A copy belongs where both of its ends lie. ``None`` is for what does no work of its own (empty nodes, allocation and
    free nodes), and for copies between two places: they are the link's work, which goes on beside that of both.
    """
    match node:
        case nodes.EmptyNode() | nodes.AllocNode() | nodes.FreeNode():
            return None
        case nodes.MemcpyNode():
            ends = {_home(graph, view.buffer) for view in (node.source, node.destination)}
            return ends.pop() if len(ends) == 1 else None
        case nodes.KernelNode() | nodes.MemsetNode() | nodes.HostCallbackNode():
            return node.place
        case nodes.EventRecordNode() | nodes.EventWaitNode() | nodes.ChildGraphNode() | nodes.ConditionalNode():
            return node.place
        case _:
            assert_never(node)


def _home(graph: Graph, buffer: str) -> Place:
    return graph.allocations[graph.buffers[buffer].allocation].place


def splits(graph: Graph) -> list[tuple[Place, list[str]]]:
    """The splits of a graph in launch order: the place of each, and its nodes, without those that belong to any."""
    placed = [(place, name) for name, node in graph.nodes.items() if (place := place_of(graph, node)) is not None]
    return [(place, [name for _, name in run]) for place, run in groupby(placed, key=lambda pair: pair[0])]


def count_splits(names: Iterable[str], places: Places) -> int:
    """How many splits nodes are in, in some order.

    Example:
        >>> from forerun.ir.types import DEVICE0, HOST
        >>> count_splits("abcd", {"a": DEVICE0, "b": None, "c": DEVICE0, "d": HOST})
        2
    """
    placed = (place for name in names if (place := places[name]) is not None)
    return sum(1 for _ in groupby(placed))


def fewest_splits(names: Sequence[str], sources: Sources, places: Places) -> list[str]:
    """An order of nodes with few splits, in which each comes after its sources.

    Each split takes all that is ready at its place, and what gets ready by that. Which place comes next is the only
    choice, so with two places one of the two orders has the fewest splits that there are: no run of any order gets
    further than the same run of the order that starts at the same place. With k places, k at most, let the places take
    turns: the i-th turn of all has done whatever the i-th run of any order does, so there are at most k times the
    fewest (which is hard to find for three places and more: common supersequences are). Tried besides are, at each
    step, the place from which most changes of place lie ahead, and the order as given, which wins if it is as good.

    Args:
        names: The nodes in an order that is allowed; in a split, they keep it.
        sources: For each node, the nodes that come before it.
        places: The place of each node; ``None`` for nodes that belong to any split.

    Example:
        >>> from forerun.ir.types import DEVICE0, HOST
        >>> places = {"a": DEVICE0, "h": HOST, "b": DEVICE0, "i": HOST}
        >>> fewest_splits("ahbi", {"h": "a", "i": "b"}, places)
        ['a', 'b', 'h', 'i']
    """
    present = list(dict.fromkeys(place for name in names if (place := places[name]) is not None))
    if len(present) < 2:
        return list(names)
    ahead = _changes_ahead(names, sources, places)
    found = [list(names)]
    for number, first in enumerate(present):
        turns = [*present[number:], *present[:number]]
        found.append(_in_runs(names, sources, places, first, partial(_next_turn, turns)))
        if len(present) > 2:
            found.append(_in_runs(names, sources, places, first, partial(_farthest, names, ahead)))
    return min(found, key=lambda order: count_splits(order, places))


_Ready: TypeAlias = dict[Place | None, list[int]]
"""The positions of the nodes that are ready, as a heap for each place."""


def _next_turn(turns: Sequence[Place], ready: _Ready, at: Place) -> Place:
    begin = turns.index(at) + 1
    return next(place for place in (*turns[begin:], *turns[:begin]) if ready.get(place))


def _farthest(names: Sequence[str], ahead: Mapping[str, int], ready: _Ready, at: Place) -> Place:
    most = {place: max(ahead[names[at]] for at in heap) for place, heap in ready.items() if place is not None and heap}
    return max(most, key=most.__getitem__)


def _changes_ahead(names: Sequence[str], sources: Sources, places: Places) -> dict[str, int]:
    """For each node, the most changes of place on a path from it."""
    ahead = dict.fromkeys(names, 0)
    for name in reversed(names):
        for source in sources.get(name, ()):
            differs = None not in (places[source], places[name]) and places[source] != places[name]
            ahead[source] = max(ahead[source], ahead[name] + differs)
    return ahead


def _in_runs(
    names: Sequence[str], sources: Sources, places: Places, first: Place, choose: Callable[[_Ready, Place], Place]
) -> list[str]:
    """The nodes in runs of one place, each as long as can be."""
    position = {name: i for i, name in enumerate(names)}
    before = {name: set(sources.get(name, ())) for name in names}
    after: dict[str, list[str]] = {name: [] for name in names}
    for name, found in before.items():
        for source in found:
            after[source].append(name)
    left = {name: len(found) for name, found in before.items()}
    ready: _Ready = {}
    for name in names:
        if not left[name]:
            heapq.heappush(ready.setdefault(places[name], []), position[name])
    order: list[str] = []
    at = first
    while len(order) < len(names):
        heaps = [heap for place in (at, None) if (heap := ready.get(place))]
        if not heaps:
            at = choose(ready, at)
            continue
        name = names[heapq.heappop(min(heaps))]
        order.append(name)
        for target in after[name]:
            left[target] -= 1
            if not left[target]:
                heapq.heappush(ready.setdefault(places[target], []), position[target])
    return order
