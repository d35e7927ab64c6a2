"""What rewrites are made of: graphs with other parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from forerun.ir.buffer import Allocation, Buffer
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import (
    Node,
)

__all__ = ["Rewrite", "Rewritten", "one", "rebuilt", "with_node"]


@dataclass(frozen=True)
class Rewritten:
    """A graph, and the nodes of before that some of its nodes are said to stand for."""

    graph: Graph
    fusions: dict[str, tuple[str, ...]] = field(default_factory=dict)


Rewrite = Callable[[Random, Graph], Graph | Rewritten | None]


def rebuilt(
    graph: Graph,
    nodes: Iterable[Node] | None = None,
    edges: Iterable[Dependency] | None = None,
    kernels: Iterable[Kernel] | None = None,
    buffers: Iterable[Buffer] | None = None,
    allocations: Iterable[Allocation] | None = None,
) -> Graph:
    """The graph with other parts; dependencies that would point backwards, or to nothing, are left out."""
    found = list(graph.nodes.values() if nodes is None else nodes)
    place = {node.name: i for i, node in enumerate(found)}
    wanted = graph.dependencies if edges is None else edges
    once = {d.pair: d for d in wanted if place.get(d.source, 1 << 30) < place.get(d.target, -1)}
    return Graph(
        graph.name,
        graph.allocations.values() if allocations is None else allocations,
        graph.buffers.values() if buffers is None else buffers,
        graph.kernels.values() if kernels is None else kernels,
        found,
        once.values(),
    )


def one(chooser: Random, graph: Graph, kind: type | tuple[type, ...]) -> Node | None:
    found = [node for node in graph if isinstance(node, kind)]
    return chooser.choice(found) if found else None


def with_node(graph: Graph, node: Node, kernels: Iterable[Kernel] | None = None) -> Graph:
    return rebuilt(graph, [node if old.name == node.name else old for old in graph], kernels=kernels)
