"""A digest of a graph, to tell whether two are equal, and whether one that must not change did."""

from __future__ import annotations

import hashlib
from itertools import chain

from forerun.ir.graph import Graph
from forerun.ir.nodes import Node
from forerun.ir.text.printer import dangling_lines, kernel_lines, memory_lines, node_lines
from forerun.ir.text.spelling import word
from forerun.ir.walk import bodies_in, without_bodies

__all__ = ["content_hash", "fingerprint"]


def fingerprint(graph: Graph) -> str:
    """SHA-256 of the text form, with tables sorted by name, in hexadecimal.

    Equal graphs have equal fingerprints, whatever the order in which their tables were filled. Computed again each
    time: it serves to catch passes that change a graph in place.

    Example:
        >>> fingerprint(Graph("a")) == fingerprint(Graph("a")), fingerprint(Graph("a")) == fingerprint(Graph("b"))
        (True, False)
    """
    memory = sorted([text for _, _, text in memory_lines(graph)])
    kernels = sorted(["\n".join([text for _, _, text in kernel_lines(kernel)]) for kernel in graph.kernels.values()])
    nodes = [text for _, _, text in chain(node_lines(graph), dangling_lines(graph))]
    content = "\n".join([word(graph.name), *memory, *kernels, *nodes])
    return hashlib.sha256(content.encode()).hexdigest()


def content_hash(graph: Graph) -> int:
    """A hash of everything in a graph, computed again each time; several times faster than :func:`fingerprint`.

    It holds within one process: it serves to notice that a graph was changed in place.
    """
    nodes = tuple([(name, _node_hash(node)) for name, node in graph._topology.nodes.data("node")])
    edges = tuple(graph._topology.edges.data("dependency"))
    tables = (tuple(table.values()) for table in (graph.allocations, graph.buffers, graph.kernels))
    return hash((graph.name, nodes, edges, *tables))


def _node_hash(node: Node | None) -> int:
    bodies = () if node is None else bodies_in(node)
    return hash((without_bodies(node), *map(content_hash, bodies))) if node is not None and bodies else hash(node)
