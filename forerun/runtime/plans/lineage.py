"""Graphs that edits made from one another: what was touched on the way says where they can differ at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from forerun.ir.delta import Delta
from forerun.ir.graph import Graph
from forerun.runtime.plans.comparison import argument_changes, compare_node
from forerun.runtime.plans.difference import Difference, NodeChange

__all__ = ["MAX_EDITS", "base_of", "compare_related"]

MAX_EDITS = 8
"""How many edits back a common ancestor is looked for."""


def base_of(graph: Graph) -> Graph | None:
    """The graph that an edit made this one from, if it is alive."""
    delta = graph.delta
    return None if delta is None or delta.base is None else delta.base()


def compare_related(before: Graph, after: Graph, positions: Mapping[str, int]) -> Difference | None:
    """How a graph differs from the one before, if edits lead from one to the other, or to both from a third.

    ``positions`` are the launch positions of the nodes of the graph before.

    Returns:
        The difference, or ``None`` if the two are not known to be related, or edits touched more than nodes in place,
        kinds of edges and hazards: then compare everything.
    """
    touched = _touched(before, after)
    if touched is None or not (before.kernels is after.kernels or _have_as_many(before, after)):
        return None
    names: dict[str, None] = {}
    for delta in touched:
        if delta.reorders or delta.buffers or delta.allocations or delta.kernels:
            return None
        if delta.dependencies and not _same_kinds(before, after, delta):
            return None
        names = names | delta.nodes if names else delta.nodes
    changes: list[NodeChange] = []
    for name in sorted(names, key=positions.__getitem__) if len(names) > 1 else names:
        old, new = before.node(name), after.node(name)
        found = argument_changes(old, new, name, positions[name])
        if found is None:
            other = compare_node(before, after, old, new, positions[name])
            if other.structure:
                return other
            changes += other.nodes
        else:
            changes += found
    return Difference(tuple(changes))


def _have_as_many(before: Graph, after: Graph) -> bool:
    """Whether the tables are as long: a graph without tables has the edits of the one with them."""
    return len(before.buffers) == len(after.buffers) and len(before.kernels) == len(after.kernels)


def _touched(before: Graph, after: Graph) -> list[Delta] | None:
    """The edits between two graphs, by way of their nearest common ancestor."""
    near = base_of(after)
    if near is not None and after.delta is not None:  # most often the one is an edit of the other, or both of a third
        if near is before:
            return [after.delta]
        if before.delta is not None and base_of(before) is near:
            return [after.delta, before.delta]
    elif before.delta is None:
        return None
    known = {id(graph): i for i, (graph, _) in enumerate(_ancestors(before))}
    passed: list[Delta] = []
    for graph, delta in _ancestors(after):
        place = known.get(id(graph))
        if place is not None:
            back = [found for _, (_, found) in zip(range(place), _ancestors(before), strict=False) if found is not None]
            return passed + back
        if delta is not None:
            passed.append(delta)
    return None


def _ancestors(graph: Graph) -> Iterator[tuple[Graph, Delta | None]]:
    """A graph, its base, and so on, each with the edit that made it from the next; the youngest first."""
    found: Graph | None = graph
    for _ in range(MAX_EDITS + 1):
        if found is None:
            return
        yield found, found.delta
        found = base_of(found)


def _same_kinds(before: Graph, after: Graph, delta: Delta) -> bool:
    """Whether the edges that an edit touched are there before and after, with the same kinds."""
    for pair in delta.dependencies:
        old, new = before.dependency(*pair), after.dependency(*pair)
        if (old is None) != (new is None) or (old is not None and new is not None and old.kind is not new.kind):
            return False
    return True
