"""Wrong checkers that get the order of events wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import networkx as nx
import pytest

from forerun.ir.graph import Graph
from forerun.ir.kernel import Trigger, Wait
from forerun.ir.nodes import (
    KernelNode,
)
from forerun.ir.semantics import order
from forerun.ir.semantics.order import EventOrder
from forerun.ir.types import DependencyKind
from tests.wrong.mutant import Patch, adjusting, collector, ordering, roles_of

__all__ = ["ORDER_MUTANTS"]

ORDER_MUTANTS, mutant = collector()


def _always_waits(answer: Callable[[Graph, Any], bool]) -> Patch:
    return lambda monkeypatch: monkeypatch.setattr(order, "always_waits", answer)


FULL, PROGRAMMATIC, LAUNCH_ORDER = DependencyKind


def _retyped(change: Callable[[Graph, Any], DependencyKind]) -> Callable[[Graph], Graph]:
    def retype(graph: Graph) -> Graph:
        tables = graph.allocations.values(), graph.buffers.values(), graph.kernels.values()
        edges = [replace(d, kind=change(graph, d)) for d in graph.dependencies]
        return Graph(graph.name, *tables, graph.nodes.values(), edges)

    return retype


def _triggers(graph: Graph, name: str) -> bool:
    return any(isinstance(step, Trigger) for role in roles_of(graph, name) for step in role.steps)


def _triggers_last(graph: Graph, name: str) -> bool:
    return any(role.steps and isinstance(role.steps[-1], Trigger) for role in roles_of(graph, name))


def _as(kind: DependencyKind, where: Callable[[Graph, Any], bool]) -> Patch:
    return ordering(_retyped(lambda graph, d: kind if where(graph, d) else d.kind))


mutant("programmatic-is-full", "a programmatic edge orders the start", _as(FULL, lambda g, d: d.kind is PROGRAMMATIC))
mutant("launch-order-is-full", "a launch-order edge orders data", _as(FULL, lambda g, d: d.kind is LAUNCH_ORDER))
mutant(
    "launch-order-is-programmatic",
    "the wait covers launch-order edges",
    _as(PROGRAMMATIC, lambda g, d: d.kind is LAUNCH_ORDER),
)
mutant("full-is-programmatic", "a full edge orders only the wait", _as(PROGRAMMATIC, lambda g, d: d.kind is FULL))
mutant("no-edges", "edges order nothing", _as(LAUNCH_ORDER, lambda g, d: True))
mutant(
    "trigger-is-flush",
    "what comes before the dependents' start was flushed by the trigger",
    _as(FULL, lambda g, d: d.kind is PROGRAMMATIC and _triggers(g, d.source)),
)
mutant(
    "last-trigger-is-flush",
    "a trigger behind all stores is as good as completion",
    _as(FULL, lambda g, d: d.kind is PROGRAMMATIC and _triggers_last(g, d.source)),
)
mutant(
    "no-trigger-is-full",
    "without a trigger the dependents start after completion",
    _as(FULL, lambda g, d: d.kind is PROGRAMMATIC and not _triggers(g, d.source)),
)
mutant("everyone-waits", "H4 holds for kernels that never wait (two hops)", _always_waits(lambda g, n: True))
mutant("nobody-waits", "H4 is forgotten", _always_waits(lambda g, n: False))
mutant(
    "first-role-waits",
    "H4 holds only if the first role waits",
    _always_waits(lambda g, n: any(isinstance(s, Wait) for role in roles_of(g, n.name)[:1] for s in role.steps)),
)
mutant(
    "black-boxes-wait",
    "H4 holds for kernels of which nothing is known",
    _always_waits(
        lambda g, n: isinstance(n, KernelNode) and (not roles_of(g, n.name) or g.kernels[n.kernel].has(Wait))
    ),
)


def _ancestors(graph: Graph, name: str, position: dict[str, int]) -> int:
    return sum(1 << position[u] for u in nx.ancestors(graph.topology, name))


def _wait_covers_ancestors(found: EventOrder, graph: Graph) -> None:
    for v, name in enumerate(graph.nodes):
        found.before_wait[v] |= _ancestors(graph, name, found.position)


def _full_covers_ancestors(found: EventOrder, graph: Graph) -> None:
    for v, name in enumerate(graph.nodes):
        for d in graph.incoming(name):
            if d.kind is FULL:
                bits = _ancestors(graph, d.source, found.position)
                found.before_start[v] |= bits
                found.before_wait[v] |= bits
                found.before_completion[v] |= bits


def _starts_in_launch_order(found: EventOrder, graph: Graph) -> None:
    for v in range(len(graph)):
        found.before_start[v] |= (1 << max(v - 2, 0)) - 1


mutant("wait-is-transitive", "the wait covers all ancestors", adjusting(_wait_covers_ancestors))
mutant("full-is-transitive", "a full edge covers all ancestors of its source", adjusting(_full_covers_ancestors))
mutant("overlap-is-one-deep", "no kernel meets the one before the one before", adjusting(_starts_in_launch_order))


def _sinks_by_path(self: EventOrder, graph: Graph) -> list[str]:
    return []


def _only_sinks(self: EventOrder, graph: Graph) -> list[str]:
    """Drained only with a direct full edge to a sink, or as a sink."""
    sinks = {name for name in graph.nodes if not graph.has_outgoing(name)}
    ends = {d.source for d in graph.dependencies if d.target in sinks and d.kind is FULL}
    return [name for name in graph.nodes if name not in sinks | ends]


def _undrained(function: Callable[..., list[str]]) -> Patch:
    return lambda monkeypatch: monkeypatch.setattr(EventOrder, "undrained", function)


mutant("wrap-around-ignored", "nodes need not be complete at the end of the replay", _undrained(_sinks_by_path))
mutant("drained-by-full-edges-only", "only full edges to a sink drain", _undrained(_only_sinks))


def _h5(answer: bool) -> Patch:
    return lambda monkeypatch: monkeypatch.setattr(order, "triggers_after_wait", lambda kernel: answer)


def _with_h6(monkeypatch: pytest.MonkeyPatch) -> None:
    original = EventOrder.__init__
    monkeypatch.setattr(EventOrder, "__init__", lambda self, graph, assumptions=(): original(self, graph, {"H6"}))


def _without_h6(monkeypatch: pytest.MonkeyPatch) -> None:
    original = EventOrder.__init__
    monkeypatch.setattr(EventOrder, "__init__", lambda self, graph, assumptions=(): original(self, graph))


mutant("h6-without-assumption", "triggers order starts in strict mode", _with_h6)
mutant("assumptions-ignored", "H6 is never granted", _without_h6)
mutant("h5-assumed", "every kernel waits before it triggers", _h5(True))
mutant("h5-forgotten", "no kernel waits before it triggers", _h5(False))
