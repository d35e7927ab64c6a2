"""``reduce-edges``: drops the dependencies that others imply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from forerun.ir.graph import Dependency, Graph
from forerun.ir.semantics import event_order
from forerun.ir.types import DependencyKind
from forerun.passes.infra.base import Pass, PassContext
from forerun.passes.infra.bodies import rewrite_all
from forerun.passes.infra.registry import register

__all__ = ["ReduceEdges", "implied_dependencies"]


@register
@dataclass(frozen=True)
class ReduceEdges(Pass):
    """Drops dependencies that the others imply, and no order of events with them.

    A full dependency u -> v (C_u before S_v) is implied by another full one y -> v if C_u comes before C_y. A
    programmatic one (C_u before W_v) is implied by any other y -> v if C_u comes before C_y, and by a full u -> v path.
    Programmatic dependencies are transitive only through nodes that wait: C_u comes before C_y through W_y (H4).
    """

    name: ClassVar[str] = "reduce-edges"
    changes: ClassVar[frozenset[str]] = frozenset({"dependencies"})
    statistics: ClassVar[Mapping[str, str]] = {"dependencies_removed": "dependencies that others imply"}

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        """The graph without implied dependencies, in bodies, too."""
        return rewrite_all(graph, context, _reduced)


def _reduced(graph: Graph, context: PassContext) -> Graph:
    edit = graph.edit()
    for dependency in implied_dependencies(graph):
        if context.should_apply():
            edit.remove_dependency(*dependency.pair)
            context.count("dependencies_removed")
    return edit.commit()


def implied_dependencies(graph: Graph) -> list[Dependency]:
    """The dependencies that can all be dropped together.

    If u -> v is implied through y, and y -> v in turn through z, then C_u reaches C_z as well; so what implies stays.
    """
    order = event_order(graph)
    implied: list[Dependency] = []
    for name in graph.nodes:
        incoming = graph.incoming(name)
        if len(incoming) < 2:
            continue
        start = wait = 0
        for dependency in incoming:
            source = order.position[dependency.source]
            before = order.before_completion[source]
            if dependency.kind is DependencyKind.FULL:
                start |= before
            if dependency.kind is not DependencyKind.LAUNCH_ORDER:
                wait |= before
        for dependency in incoming:
            source = order.position[dependency.source]
            known = start if dependency.kind is DependencyKind.FULL else wait
            if dependency.kind is not DependencyKind.LAUNCH_ORDER and known >> source & 1:
                implied.append(dependency)
    return implied
