"""``infer-dependencies``: from launch order to the dependencies that the data demands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from forerun.ir.graph import Dependency, Graph, Hazard
from forerun.ir.semantics import conflicts
from forerun.ir.semantics.access import is_fence
from forerun.passes.base import Pass, PassContext
from forerun.passes.bodies import rewrite_all
from forerun.passes.registry import register

__all__ = ["InferDependencies", "hazard_dependencies"]


@register
@dataclass(frozen=True)
class InferDependencies(Pass):
    """Replaces the dependencies by full ones for the hazards between nodes, and for nothing else.

    Requires a graph that is ordered by its launch order (a captured stream, say). Ensures that every two accesses to
    the same bytes, at least one of them a write, are ordered as in launch order, directly or through others; nodes that
    share no bytes become independent. Host calls stay in order among themselves, and nothing moves across an event.
    """

    name: ClassVar[str] = "infer-dependencies"
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
        present_kind = graph.dependency(*pair)
        if present_kind is None:
            context.count("dependencies_added")
        edit.set_dependency(dependency)
    return edit.commit()


def hazard_dependencies(graph: Graph) -> dict[tuple[str, str], Dependency]:
    """The full dependencies that the direct conflicts and the fences of a graph demand, by pair."""
    hazards: dict[tuple[str, str], set[Hazard]] = {}
    for conflict in conflicts(graph):
        hazards.setdefault((conflict.earlier.node, conflict.later.node), set()).add(conflict.hazard)
    for pair in _fence_pairs(graph, hazards):
        hazards.setdefault(pair, set())
    return {pair: Dependency(*pair, hazards=tuple(sorted(found))) for pair, found in hazards.items()}


def _fence_pairs(graph: Graph, known: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Tie what has no successor before a fence to it, and what has no predecessor after a fence to that."""
    fences = [node.name for node in graph if is_fence(node)]
    if not fences:
        return []
    place = {name: i for i, name in enumerate(graph.nodes)}
    pairs: list[tuple[str, str]] = []
    edges = list(known)
    for fence in fences:
        at = place[fence]
        followed = {source for source, target in edges + pairs if place[target] <= at}
        pairs += [(name, fence) for name, i in place.items() if i < at and name not in followed]
        led = {target for source, target in edges if place[source] >= at}
        pairs += [(fence, name) for name, i in place.items() if i > at and name not in led]
    return list(dict.fromkeys(pairs))
