"""A digest of a graph, to tell whether two are equal, and whether one that must not change did."""

from __future__ import annotations

import hashlib
from itertools import chain

from forerun.ir.graph import Graph
from forerun.ir.text.printer import dangling_lines, kernel_lines, memory_lines, node_lines
from forerun.ir.text.spelling import word

__all__ = ["fingerprint"]


def fingerprint(graph: Graph) -> str:
    """SHA-256 of the text form, with tables sorted by name, in hexadecimal.

    Equal graphs have equal fingerprints, whatever the order in which their tables were filled. Computed anew each
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
