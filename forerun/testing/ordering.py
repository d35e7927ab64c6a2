"""Dependencies of random graphs: as a stream or as the data demands, some more, and some weakened."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from itertools import pairwise

from forerun.ir.graph import Dependency, Graph
from forerun.ir.nodes import KernelNode
from forerun.ir.semantics import check
from forerun.ir.types import DependencyKind
from forerun.passes.infer_dependencies import hazard_dependencies

__all__ = ["ordered", "weakened", "with_extra"]


def ordered(graph: Graph, order: str) -> Graph:
    """The graph with full dependencies that order all of it (``stream``), or all that the data demands (``dag``)."""
    edit = graph.edit()
    stream = [Dependency(source, target) for source, target in pairwise(graph.nodes)]
    for dependency in stream if order == "stream" else hazard_dependencies(graph).values():
        edit.add_dependency(dependency)
    return edit.commit()


def with_extra(graph: Graph, name: str, extra: tuple[int, DependencyKind], kinds: Collection[DependencyKind]) -> Graph:
    """A proved graph with one more dependency of a node, from a node some places before, if no race comes of it.

    It is of the kind that ``extra`` says if that may occur and can be, else full.
    """
    distance, kind = extra
    names = list(graph.nodes)
    at = names.index(name) - distance
    if at < 0 or graph.dependency(names[at], name) is not None:
        return graph
    for choice in (kind, DependencyKind.FULL):
        if choice is DependencyKind.FULL or (choice in kinds and _may_overlap(graph, names[at], name)):
            edit = graph.edit()
            edit.set_dependency(Dependency(names[at], name, choice))
            candidate = edit.commit()
            if check(candidate).proved:
                return candidate
    return graph


def weakened(graph: Graph, name: str, bits: int) -> Graph:
    """The graph with some of a node's full dependencies made programmatic, as far as no race comes of it."""
    for i, dependency in enumerate(graph.incoming(name)):
        if bits >> i & 1 and dependency.kind is DependencyKind.FULL and _may_overlap(graph, *dependency.pair):
            edit = graph.edit()
            edit.set_dependency(replace(dependency, kind=DependencyKind.PROGRAMMATIC))
            candidate = edit.commit()
            graph = candidate if check(candidate).proved else graph
    return graph


def _may_overlap(graph: Graph, source: str, target: str) -> bool:
    """Whether a dependency between two nodes may be other than full."""
    ends = graph.nodes[source], graph.nodes[target]
    return all(isinstance(node, KernelNode) for node in ends)
