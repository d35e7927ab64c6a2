"""``infer-dependencies``: from launch order to the dependencies that the data demands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from forerun.ir.graph import Dependency, Graph, Hazard
from forerun.ir.semantics import Conflict, conflicts
from forerun.ir.semantics.access import is_event
from forerun.ir.semantics.alike import ones
from forerun.passes.infra.base import Pass, PassContext
from forerun.passes.infra.bodies import rewrite_all
from forerun.passes.infra.registry import register

__all__ = ["InferDependencies", "hazard_dependencies"]


MOST_SOURCES = 16
"""A node gets a dependency from each node that it conflicts with directly, if they are at most that many."""


@register
@dataclass(frozen=True)
class InferDependencies(Pass):
    """Replaces the dependencies by full ones for the hazards between nodes, and for nothing else.

    Requires a graph that is ordered by its launch order (a captured stream, say). Ensures that every two accesses to
    the same bytes, at least one of them a write, are ordered as in launch order, directly or through others; nodes that
    share no bytes become independent. Nothing moves across an event, or across a host call that is not pure.
    """

    name: ClassVar[str] = "infer-dependencies"
    changes: ClassVar[frozenset[str]] = frozenset({"dependencies"})
    statistics: ClassVar[Mapping[str, str]] = {
        "dependencies_added": "dependencies that the hazards demand and that were not there",
        "dependencies_removed": "dependencies without a hazard",
    }

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        """The same nodes under the dependencies of their hazards, in bodies, too."""
        return rewrite_all(graph, context, _inferred)


def _inferred(graph: Graph, context: PassContext) -> Graph:
    wanted = hazard_dependencies(graph)
    edit = graph.edit()
    for present in graph.dependencies:
        if present.pair not in wanted:
            edit.remove_dependency(*present.pair)
            context.count("dependencies_removed")
    for pair, dependency in wanted.items():
        context.count("dependencies_added", graph.dependency(*pair) is None)
        edit.set_dependency(dependency)
    return edit.commit()


def hazard_dependencies(graph: Graph) -> dict[tuple[str, str], Dependency]:
    """The full dependencies that the direct conflicts and the events of a graph demand, by pair."""
    hazards = _hazards(graph)
    for pair in _event_pairs(graph, hazards):
        hazards.setdefault(pair, set())
    return {pair: Dependency(*pair, hazards=tuple(sorted(found))) for pair, found in hazards.items()}


def _hazards(graph: Graph) -> dict[tuple[str, str], set[Hazard]]:
    """The hazards of the pairs of nodes that conflict directly.

    A node that conflicts with very many others is ordered after those that are not before one of these: what comes
    first is then before it, too. All pairs would be as many as the square of the number of nodes.
    """
    found: dict[tuple[str, str], set[Hazard]] = {}
    names = list(graph.nodes)
    last = _last_sources(graph)
    for clash in conflicts(graph).clashes:
        later = clash.later
        for alike, nodes in clash.earlier:
            hazard = Conflict(alike.first, later).hazard
            for at in ones(nodes & last[later.node] >> alike.base if later.node in last else nodes):
                found.setdefault((names[alike.base + at], later.node), set()).add(hazard)
    return found


def _last_sources(graph: Graph) -> dict[str, int]:
    """For nodes that conflict with more than a few others, those of them that come last, as sets of positions."""
    sources: dict[str, int] = {}
    for clash in conflicts(graph).clashes:
        for alike, nodes in clash.earlier:
            sources[clash.later.node] = sources.get(clash.later.node, 0) | nodes << alike.base
    many = {name for name, found in sources.items() if found.bit_count() > MOST_SOURCES}
    last: dict[str, int] = {}
    before: list[int] = []
    for name in graph.nodes if many else ():
        rest, reached = sources.get(name, 0), 0
        kept = 0
        while rest:
            v = rest.bit_length() - 1
            kept |= 1 << v
            reached |= before[v] | 1 << v
            rest &= ~reached
        before.append(reached)
        if name in many:
            last[name] = kept
    return last


def _event_pairs(graph: Graph, known: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Tie what has no successor before an event to it, and what has no predecessor after one to that.

    From the first event to the last for the former, and back for the latter, so that a node is tied to the nearest
    events, and through them to all others.
    """
    events = [node.name for node in graph if is_event(node)]
    if not events:
        return []
    names = list(graph.nodes)
    place = {name: i for i, name in enumerate(names)}
    first_target, last_source = dict.fromkeys(names, len(names)), dict.fromkeys(names, -1)
    pairs: dict[tuple[str, str], None] = {}

    def note(source: str, target: str) -> None:
        first_target[source] = min(first_target[source], place[target])
        last_source[target] = max(last_source[target], place[source])

    for pair in known:
        note(*pair)
    for event in events:
        for name in names[: place[event]]:
            if first_target[name] > place[event]:
                pairs[name, event] = None
                note(name, event)
    for event in reversed(events):
        for name in names[place[event] + 1 :]:
            if last_source[name] < place[event]:
                pairs[event, name] = None
                note(event, name)
    return list(pairs)
