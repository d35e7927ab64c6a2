"""The order of events: what is certain before a node starts, and before its wait returns.

Events of a node v (docs/pdl.md, "Events"): S (start), W (wait returns), T (trigger), C (complete and flushed).

    H1  S -> W,  S -> T -> C
    H2  full u->v:          C_u -> S_v
    H3  programmatic u->v:  C_u -> W_v
    H4  v always waits:     W_v -> C_v
    H5  v never triggers before it waits:  W_v -> T_v     (matters only with H6 and H8)
    H6  programmatic u->v:  T_u -> S_v                    (an assumption, off in strict mode)
    H8  programmatic u->v, T_u certainly fenced:  T_u -> S_v; T_u releases what a barrier puts before it (assumption)

A launch-order dependency orders nothing here. docs/checker.md explains the rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, combinations
from typing import NamedTuple

from forerun.ir.analysis import Analysis
from forerun.ir.graph import Graph
from forerun.ir.nodes import KernelNode, Node
from forerun.ir.semantics.access import always_waits
from forerun.ir.semantics.body import has_fenced_trigger, triggers_after_wait
from forerun.ir.types import DependencyKind
from forerun.support.diagnostics import InvalidInput, did_you_mean

__all__ = ["ASSUMPTIONS", "EventOrder", "event_order", "gates_start", "order_under", "require_assumptions"]

ASSUMPTIONS: Mapping[str, str] = {
    "H6": "a node starts only after its programmatic sources have triggered",
    "H8": "a fenced trigger releases what comes before the fence to the start of the programmatic dependents",
}
"""The opt-in rules, by name."""


def require_assumptions(names: Iterable[str]) -> frozenset[str]:
    """The assumptions as a set.

    Raises:
        InvalidInput: If a name is none of :data:`ASSUMPTIONS`.
    """
    found = frozenset([names] if isinstance(names, str) else names)
    for name in sorted(found - set(ASSUMPTIONS)):
        raise InvalidInput(f"unknown assumption '{name}'", hint=did_you_mean(name, ASSUMPTIONS))
    return found


def gates_start(graph: Graph, source: Node, assumptions: frozenset[str]) -> bool:
    """Whether T of the source of a programmatic dependency is before S of its target: H6, or H8 if T is fenced."""
    if "H6" in assumptions or "H8" not in assumptions or not isinstance(source, KernelNode):
        return "H6" in assumptions
    kernel = graph.kernels.get(source.kernel)
    return kernel is not None and has_fenced_trigger(kernel)


class EventOrder:
    """For each node, the sets of nodes whose completion reaches its S, its W and its C.

    Sets are bit sets (Python integers) over launch positions, so a graph of n nodes costs n unions of n bits. The graph
    is verified: its launch order is a topological order of the dependencies. With H8 there is a second family of sets:
    the nodes whose T, rather than C, reaches S or W.
    """

    def __init__(self, graph: Graph, assumptions: Iterable[str] = ()) -> None:
        self.assumptions = require_assumptions(assumptions)
        self.position = {name: i for i, name in enumerate(graph.nodes)}
        self._names = tuple(graph.nodes)
        self._bodies = tuple(_bodies(graph, self.assumptions))
        self.before_start, self.before_wait, self.before_completion = self._reach(graph, from_trigger=False)
        self.triggered_before_start, self.triggered_before_wait = self.before_start, self.before_wait
        if "H8" in self.assumptions:
            self.triggered_before_start, self.triggered_before_wait, _ = self._reach(graph, from_trigger=True)

    def _reach(self, graph: Graph, *, from_trigger: bool) -> tuple[list[int], list[int], list[int]]:
        """The sets before S, W and C; of the nodes whose C reaches these events, or else of those whose T does."""
        position, bodies, gated = self.position, self._bodies, bool(self.assumptions)
        before_start, before_wait, before_completion = [], [], list[int]()
        before_trigger = list[int]()
        for v, name in enumerate(self._names):
            start = wait = 0
            for dependency in graph.incoming(name):
                u = position[dependency.source]
                completion = before_completion[u] | 1 << u
                if dependency.kind is DependencyKind.FULL:
                    start |= completion
                elif dependency.kind is DependencyKind.PROGRAMMATIC:
                    wait |= completion
                    if gated and bodies[u].gates:
                        start |= before_trigger[u] | (from_trigger << u)
            wait |= start
            before_start.append(start)
            before_wait.append(wait)
            before_completion.append(wait if bodies[v].waits else start)
            before_trigger.append(wait if bodies[v].triggers_late else start)
        return before_start, before_wait, before_completion

    def completes_before_start(self, u: str, v: str) -> bool:
        """Whether C_u reaches S_v: everything that u wrote is visible to all of v."""
        return bool(self.before_start[self.position[v]] >> self.position[u] & 1)

    def completes_before_wait(self, u: str, v: str) -> bool:
        """Whether C_u reaches W_v: everything that u wrote is visible to v after its wait."""
        return bool(self.before_wait[self.position[v]] >> self.position[u] & 1)

    def completes_before_completion(self, u: str, v: str) -> bool:
        """Whether C_u reaches C_v."""
        return bool(self.before_completion[self.position[v]] >> self.position[u] & 1)

    def triggers_before_start(self, u: str, v: str) -> bool:
        """Whether T_u reaches S_v, so that what T_u releases is visible to all of v; without H8, whether C_u does."""
        return bool(self.triggered_before_start[self.position[v]] >> self.position[u] & 1)

    def last_of(self, nodes: int) -> int:
        """The nodes of a set whose completion reaches that of no other one in it: all the rest comes before these."""
        last, rest = 0, nodes
        while rest:
            v = rest.bit_length() - 1
            last |= 1 << v
            rest &= ~(self.before_completion[v] | 1 << v)
        return last

    def always_waits(self, v: str) -> bool:
        """H4: whether some thread of v always waits."""
        return self._bodies[self.position[v]].waits

    def triggers_late(self, v: str) -> bool:
        """H5: whether v waits before it triggers."""
        return self._bodies[self.position[v]].triggers_late

    def gates(self, u: str) -> bool:
        """H6, H8: whether the starts of u's programmatic dependents come after T_u."""
        return self._bodies[self.position[u]].gates

    def undrained(self, graph: Graph) -> list[str]:
        """The nodes whose completion reaches no sink's: the host and the next replay race with them (H7)."""
        drained = 0
        for v, name in enumerate(self._names):
            if not graph.has_outgoing(name):
                drained |= self.before_completion[v] | 1 << v
        return [name for v, name in enumerate(self._names) if not drained >> v & 1]


class _Body(NamedTuple):
    """What the rules need to know of a node's body."""

    waits: bool = False
    triggers_late: bool = False
    gates: bool = False


def _bodies(graph: Graph, assumptions: frozenset[str]) -> Iterator[_Body]:
    """The bodies of the nodes in launch order; each kernel is looked at once."""
    known: dict[str, _Body] = {}
    for node in graph:
        if isinstance(node, KernelNode) and node.kernel not in known:
            kernel = graph.kernels.get(node.kernel)
            late = bool(assumptions) and kernel is not None and triggers_after_wait(kernel)
            known[node.kernel] = _Body(always_waits(graph, node), late, gates_start(graph, node, assumptions))
        yield known[node.kernel] if isinstance(node, KernelNode) else _Body()


_DEPENDS = {"nodes", "dependencies", "kernels"}

event_order = Analysis(_DEPENDS, EventOrder)
"""The strict event order of a graph."""


_SETS = map(frozenset, chain.from_iterable(combinations(ASSUMPTIONS, n) for n in range(1, len(ASSUMPTIONS) + 1)))
_ORDERS = {frozenset(): event_order, **{s: Analysis(_DEPENDS, partial(EventOrder, assumptions=s)) for s in _SETS}}


def order_under(graph: Graph, assumptions: Iterable[str] = ()) -> EventOrder:
    """The event order under some assumptions, computed on the first call.

    Raises:
        InvalidInput: If an assumption is unknown.
    """
    return _ORDERS[require_assumptions(assumptions)](graph)
