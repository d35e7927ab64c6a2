"""A hash of a graph, to tell whether one that must not change did."""

from __future__ import annotations

from forerun.ir.graph import Graph
from forerun.ir.nodes import Node
from forerun.ir.walk import bodies_in, without_bodies

__all__ = ["content_hash"]


def content_hash(graph: Graph) -> int:
    """A hash of everything in a graph, computed again each time.

    It holds within one process: it serves to notice that a graph was changed in place.
    """
    nodes = tuple([(name, _node_hash(node)) for name, node in graph._topology.nodes.data("node")])
    edges = tuple(graph._topology.edges.data("dependency"))
    tables = (tuple(table.values()) for table in (graph.allocations, graph.buffers, graph.kernels))
    return hash((graph.name, nodes, edges, *tables))


def _node_hash(node: Node | None) -> int:
    bodies = () if node is None else bodies_in(node)
    return hash((without_bodies(node), *map(content_hash, bodies))) if node is not None and bodies else hash(node)
