"""Event nodes tie a graph to the world outside: what a rewrite lets cross them."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from forerun.ir.graph import Graph
from forerun.ir.semantics.access import NodeAccess, accesses, is_event
from forerun.ir.semantics.binding import unversioned
from forerun.ir.semantics.order import EventOrder, order_under

__all__ = ["crossings", "event_nodes", "same_access"]


def event_nodes(graph: Graph) -> list[str]:
    """The names of the nodes that nothing may cross, in launch order."""
    return [node.name for node in graph if is_event(node)]


def crossings(
    before: Graph, after: Graph, assumptions: Collection[str] = frozenset()
) -> Iterator[tuple[str, str, str]]:
    """What was ordered with an event node before a rewrite, and is not any more; nodes are matched by name.

    Yields:
        The event node, the node that crosses it, and a sentence about that node.
    """
    common = [name for name in event_nodes(before) if name in after.nodes]
    if not common:
        return
    old, new = order_under(before, assumptions), order_under(after, assumptions)
    names = [name for name in before.nodes if name in after.nodes]
    for event in common:
        for name in names:
            if old.completes_before_start(name, event) and not new.completes_before_start(name, event):
                yield event, name, f"may not be complete when event node '{event}' starts; it was before"
            elif _escapes(before, after, old, new, event, name):
                yield event, name, f"may begin before event node '{event}' is complete; it did not before"


def _escapes(before: Graph, after: Graph, old: EventOrder, new: EventOrder, event: str, name: str) -> bool:
    """Whether some access of the node came after the event, and does not any more."""
    if not old.completes_before_wait(event, name) or new.completes_before_start(event, name):
        return False
    whole = old.completes_before_start(event, name)
    led = [a for a in accesses(before)[name] if whole or not a.early]
    freed = [a for a in accesses(after)[name] if a.early or not new.completes_before_wait(event, name)]
    return any(same_access(a, b) for a in freed for b in led)


def same_access(a: NodeAccess, b: NodeAccess) -> bool:
    """Whether two accesses of a node, in two graphs, are the same but for when they may happen."""
    same = (a.phase, a.allocation, a.write) == (b.phase, b.allocation, b.write)
    return same and (a.bytes == b.bytes or unversioned(a.bytes) == unversioned(b.bytes))
