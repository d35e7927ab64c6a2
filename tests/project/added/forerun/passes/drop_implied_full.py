"""``drop-implied-full``: full dependencies go where paths of full ones imply them."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx

from forerun.ir.graph import Graph
from forerun.ir.types import DependencyKind
from forerun.passes.infra.base import Pass, PassContext
from forerun.passes.infra.registry import register

__all__ = ["DropImpliedFull"]


@register
@dataclass(frozen=True)
class DropImpliedFull(Pass):
    """Drops full dependencies that paths of full ones imply."""

    name = "drop-implied-full"
    changes = frozenset({"dependencies"})

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        """The graph without them; bodies stay as they are."""
        full = nx.DiGraph([d.pair for d in graph.dependencies if d.kind is DependencyKind.FULL])
        edit = graph.edit()
        for pair in set(full.edges) - set(nx.transitive_reduction(full).edges):
            edit.remove_dependency(*pair)
        return edit.commit()
