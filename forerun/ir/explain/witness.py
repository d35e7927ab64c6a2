"""Witnesses: for a race or an undrained node, a concrete schedule that the rules allow, and why they allow it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from forerun.ir.graph import Dependency, Graph
from forerun.ir.semantics.access import NodeAccess
from forerun.ir.semantics.nested import body_at
from forerun.ir.semantics.order import EventOrder, order_under
from forerun.ir.semantics.races import Race
from forerun.ir.types import DependencyKind
from forerun.ir.walk import BodyPath
from forerun.support.escaping import visible

__all__ = ["Witness", "WitnessStep", "chain_between", "chain_to_sink", "drain_witness", "prerequisites", "witness"]

Event: TypeAlias = tuple[str, str]
"""``S``, ``W``, ``T`` or ``C``, and the name of a node."""

_EVENTS = ("S", "W", "T", "C")
_COVERED = {"S": DependencyKind.FULL, "W": DependencyKind.PROGRAMMATIC}
"""The dependencies whose sources are complete at a start, and when a wait returns."""

_WORDS = {
    "S": "'{}' starts",
    "W": "the wait of '{}' returns",
    "T": "'{}' triggers",
    "C": "'{}' is complete, its writes are visible",
}


@dataclass(frozen=True, slots=True)
class WitnessStep:
    """One step of a schedule: an event (``S``, ``W``, ``T``, ``C``) of a node, or an access, with an empty event."""

    node: str
    event: str = ""
    access: NodeAccess | None = None

    def __str__(self) -> str:
        if self.access is None:
            return _WORDS[self.event].format(self.node)
        where = f" in phase '{self.access.phase}'" if self.access.phase else ""
        return f"'{self.node}' {self.access.verb} %{self.access.buffer} bytes {self.access.bytes}{where}"


@dataclass(frozen=True, slots=True)
class Witness:
    """A schedule that ends with the two accesses of a race, the wrong way round; or in which a node outlives the graph.

    Attributes:
        steps: What the nodes of the chain do; for a race the last two are the accesses, adjacent.
        schedule: The same with the steps of all other nodes that have to come first: a legal schedule of the graph.
        chain: The dependencies from the one node to the other, by the shortest way; empty if there is none.
        missing: The order that would prevent it: ``C_a -> S_b``.
        reason: Why the chain does not give that order.
    """

    steps: tuple[WitnessStep, ...]
    schedule: tuple[WitnessStep, ...]
    chain: tuple[Dependency, ...]
    missing: str
    reason: str

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes of the chain; without a chain, those of the steps."""
        if self.chain:
            return (self.chain[0].source, *(d.target for d in self.chain))
        return tuple(dict.fromkeys(step.node for step in self.steps))

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> Iterator[str]:
        """The text: numbered steps, the accesses marked with ``>``, what is missing, and why."""
        yield from map(visible, self._lines())

    def _lines(self) -> Iterator[str]:
        hidden = len(self.schedule) - len(self.steps)
        yield "a schedule that nothing prevents" + (f" ({hidden} steps of other nodes left out):" if hidden else ":")
        for number, step in enumerate(self.steps, 1):
            yield f"{'>' if step.access is not None else ' '} {number:>3}  {step}"
        yield f"missing: {self.missing}"
        if self.chain:
            yield f"chain: {self.chain[0].source}" + "".join(f" -{d.kind}-> {d.target}" for d in self.chain)
        yield f"because {self.reason}"


def witness(graph: Graph, race: Race, assumptions: Iterable[str] = frozenset()) -> Witness:
    """A schedule in which the later access of a race is performed just before the earlier one.

    It is made of the events that must come before the begin of either access, in launch order. The completion of the
    earlier access's node is not among them, or there would be no race; so both accesses may be performed then. The
    assumptions are those under which :func:`~forerun.ir.semantics.races.check` found the race.
    """
    graph = body_at(graph, race.body)
    order = order_under(graph, assumptions)
    earlier, later = race.earlier, race.later
    begins = [("S" if access.early else "W", access.node) for access in (earlier, later)]
    events = _linearised(graph, order, begins)
    accesses = (WitnessStep(later.node, access=later), WitnessStep(earlier.node, access=earlier))
    chain = chain_between(graph, earlier.node, later.node)
    return _cut(events, accesses, chain, (earlier.node, later.node), race.missing, _why_race(order, chain, race))


def drain_witness(graph: Graph, node: str, assumptions: Iterable[str] = frozenset(), *, body: BodyPath = ()) -> Witness:
    """A schedule in which all sinks are complete, and an undrained node, in the graph or in a body of it, is not.

    The assumptions are those under which :func:`~forerun.ir.semantics.races.check` found it.
    """
    graph = body_at(graph, body)
    order = order_under(graph, assumptions)
    sinks = [name for name in graph.nodes if not graph.has_outgoing(name)]
    events = _linearised(graph, order, [("S", node), *(("C", sink) for sink in sinks)])
    chain = chain_to_sink(graph, node)
    sink = chain[-1].target
    reason = _why_lost(order, chain) or f"no order of events leads from the completion of '{node}' to that of a sink"
    return _cut(events, (), chain, (node, sink), f"C_{node} -> C_{sink}", reason)


def _cut(
    events: list[Event],
    accesses: tuple[WitnessStep, ...],
    chain: tuple[Dependency, ...],
    ends: tuple[str, str],
    missing: str,
    reason: str,
) -> Witness:
    schedule = (*(WitnessStep(name, event) for event, name in events), *accesses)
    shown = {*ends, *(d.target for d in chain)}
    steps = tuple(step for step in schedule if step.node in shown)
    return Witness(steps, schedule, chain, missing, reason)


# Schedules


def prerequisites(graph: Graph, order: EventOrder, event: Event) -> Iterator[Event]:
    """The events that the rules put directly before an event."""
    kind, name = event
    if kind != "S":
        yield "S", name
    if (kind == "C" and order.always_waits(name)) or (kind == "T" and order.triggers_late(name)):
        yield "W", name
    if kind in "SW":
        for dependency in graph.incoming(name):
            source = dependency.source
            if dependency.kind is _COVERED[kind]:
                yield "C", source
            elif kind == "S" and dependency.kind is DependencyKind.PROGRAMMATIC and order.gates(source):
                yield "T", source


def _linearised(graph: Graph, order: EventOrder, last: Iterable[Event]) -> list[Event]:
    """Some events and all that must come before them, in an order that the rules allow: node by node."""
    found = set(last)
    stack = list(found)
    while stack:
        for event in prerequisites(graph, order, stack.pop()):
            if event not in found:
                found.add(event)
                stack.append(event)
    # All rules lead from nodes that come first in launch order, and within a node from S to W to T to C.
    return sorted(found, key=lambda event: (order.position[event[1]], _EVENTS.index(event[0])))


def chain_between(graph: Graph, source: str, target: str) -> tuple[Dependency, ...]:
    """The dependencies on a shortest way between two nodes; one without launch-order dependencies if there is one."""
    import networkx as nx

    topology = graph.topology
    ordering = nx.subgraph_view(
        topology, filter_edge=lambda u, v: topology[u][v]["dependency"].kind is not DependencyKind.LAUNCH_ORDER
    )
    for candidate in (ordering, topology):
        if nx.has_path(candidate, source, target):
            path = nx.shortest_path(candidate, source, target)
            return tuple(topology[u][v]["dependency"] for u, v in pairwise(path))
    return ()


def chain_to_sink(graph: Graph, node: str) -> tuple[Dependency, ...]:
    """The dependencies on a way from a node to the nearest sink; empty for a sink."""
    import networkx as nx

    lengths = nx.single_source_shortest_path_length(graph.topology, node)
    return chain_between(graph, node, next(name for name in lengths if not graph.has_outgoing(name)))


# Reasons


def _why_race(order: EventOrder, chain: tuple[Dependency, ...], race: Race) -> str:
    u, v = race.earlier.node, race.later.node
    if not chain:
        return f"no dependency leads from '{u}' to '{v}'"
    lost = _why_lost(order, chain[:-1])
    if lost:
        return lost
    last = chain[-1]
    if last.kind is DependencyKind.LAUNCH_ORDER:
        return f"the dependency '{last.source}' -> '{v}' orders the starts at best"
    reason = f"the dependency '{last.source}' -> '{v}' is programmatic, and "
    if not order.always_waits(v):
        reason += f"'{v}' never waits"
    else:
        where = f"phase '{race.later.phase}'" if race.later.phase else "the access"
        reason += f"no wait of '{v}' certainly comes before {where}"
    if race.earlier.released and order.triggers_before_start(u, v):
        return reason + "; what the fence releases need not reach the copy engine"
    if "H8" in order.assumptions and order.gates(u) and not race.earlier.released:
        reason += (
            f"; the trigger of '{u}' does not release phase '{race.earlier.phase}': no barrier and fence in between"
        )
    return reason


def _why_lost(order: EventOrder, chain: tuple[Dependency, ...]) -> str:
    """Why the completion of a chain's first node does not reach that of its last one; empty if it does."""
    for dependency in chain:
        u, x, y = chain[0].source, dependency.source, dependency.target
        if order.completes_before_completion(u, y):
            continue
        if dependency.kind is DependencyKind.LAUNCH_ORDER:
            return f"the dependency '{x}' -> '{y}' orders the starts at best"
        link = f"the dependency '{x}' -> '{y}' is programmatic and '{y}' never waits"
        return f"{link}, so '{y}' may be complete before '{u}' is"
    return ""
