"""Wrong passes that drop dependencies."""

from __future__ import annotations

import networkx as nx

from forerun.ir.graph import Graph
from forerun.ir.types import DependencyKind
from forerun.passes.infra.base import PassContext
from forerun.passes.reduce_edges import ReduceEdges
from tests.wrong.wrong_pass import both_are_kernels, reduced, weakened_where, wrong_pass

__all__: list[str] = []


@wrong_pass("race", "a programmatic edge is dropped behind any other path")
def drops_programmatic_behind_paths(graph: Graph) -> Graph:
    kept = set(nx.transitive_reduction(graph.topology).edges)
    return reduced(graph, lambda d: d.kind is DependencyKind.PROGRAMMATIC and d.pair not in kept)


@wrong_pass("race", "a full edge is dropped behind a path of programmatic ones")
def drops_full_behind_paths(graph: Graph) -> Graph:
    kept = set(nx.transitive_reduction(graph.topology).edges)
    return reduced(graph, lambda d: d.kind is DependencyKind.FULL and d.pair not in kept)


@wrong_pass("race", "one edge into each node is kept, the last")
def keeps_one_edge(graph: Graph) -> Graph:
    return reduced(graph, lambda d: graph.incoming(d.target)[-1].pair != d.pair)


@wrong_pass("race", "edges whose only reason is a write after a read are dropped")
def drops_war_edges(graph: Graph) -> Graph:
    return reduced(graph, lambda d: bool(d.hazards) and {h.kind for h in d.hazards} == {"WAR"})


@wrong_pass("race", "reduces, and then makes programmatic what is left")
def reduces_and_weakens(graph: Graph) -> Graph:
    right = ReduceEdges().apply(graph, PassContext(ReduceEdges()))
    return weakened_where(right, DependencyKind.PROGRAMMATIC, both_are_kernels)


@wrong_pass("race", "reduces transitively, whatever the kinds of the dependencies")
def reduces_as_if_full(graph: Graph) -> Graph:
    kept = set(nx.transitive_reduction(graph.topology).edges)
    edit = graph.edit()
    for dependency in graph.dependencies:
        if dependency.pair not in kept:
            edit.remove_dependency(*dependency.pair)
    return edit.commit()
