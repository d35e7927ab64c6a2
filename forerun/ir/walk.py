"""The walk over a graph and the bodies in it, and the paths of what is found there.

The nodes of a body are called ``owner/node``; those of a conditional's second body ``owner/1/node``, and so on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TypeAlias, assert_never

from forerun.ir.graph import Graph
from forerun.ir.nodes import (
    AllocNode,
    ChildGraphNode,
    ConditionalNode,
    EmptyNode,
    EventRecordNode,
    EventWaitNode,
    FreeNode,
    HostCallbackNode,
    KernelNode,
    MemcpyNode,
    MemsetNode,
    Node,
)

__all__ = [
    "BodyPath",
    "all_bodies",
    "all_nodes",
    "bodies_in",
    "bodies_of",
    "body_prefix",
    "inner_bodies",
    "kernel_nodes",
    "with_bodies",
]

BodyPath: TypeAlias = tuple[tuple[str, int], ...]
"""Where a body is: from the outermost, the name of each node around it, and which of its bodies."""


def bodies_in(node: Node) -> tuple[Graph, ...]:
    """The bodies of a node; most kinds of nodes have none."""
    match node:
        case KernelNode() | MemcpyNode() | MemsetNode() | HostCallbackNode() | EmptyNode():
            return ()
        case ChildGraphNode():
            return (node.body,)
        case ConditionalNode():
            return node.bodies
        case AllocNode() | FreeNode() | EventRecordNode() | EventWaitNode():
            return ()
        case _:
            assert_never(node)


def with_bodies(node: Node, bodies: Iterable[Graph]) -> Node:
    """The node with other bodies, as many as it has."""
    found = tuple(bodies)
    match node:
        case ChildGraphNode():
            return replace(node, body=found[0])
        case ConditionalNode():
            return replace(node, bodies=found)
        case KernelNode() | MemcpyNode() | MemsetNode() | HostCallbackNode() | EmptyNode():
            return node
        case AllocNode() | FreeNode() | EventRecordNode() | EventWaitNode():
            return node
        case _:
            assert_never(node)


def body_prefix(prefix: str, owner: str, number: int) -> str:
    """What the paths of the nodes in a body begin with.

    Args:
        prefix: What the owner's own path begins with.
        owner: The name of the node whose body it is.
        number: Which of its bodies.
    """
    return f"{prefix}{owner}/{number}/" if number else f"{prefix}{owner}/"


def bodies_of(graph: Graph, path: BodyPath = ()) -> Iterator[tuple[BodyPath, Graph]]:
    """The bodies of a graph's nodes, each with its path, in launch order; not the bodies inside these."""
    for node in graph:
        for number, body in enumerate(bodies_in(node)):
            yield (*path, (node.name, number)), body


def inner_bodies(graph: Graph, prefix: str = "") -> Iterator[tuple[str, Graph]]:
    """The bodies of a graph's nodes, each with what the paths of its nodes begin with; not the bodies inside these."""
    for node in graph:
        for number, body in enumerate(bodies_in(node)):
            yield body_prefix(prefix, node.name, number), body


def all_bodies(graph: Graph, prefix: str = "") -> Iterator[tuple[str, Graph]]:
    """A graph and all bodies in it, each with what the paths of its nodes begin with, the outer ones first."""
    yield prefix, graph
    for inner, body in inner_bodies(graph, prefix):
        yield from all_bodies(body, inner)


def all_nodes(graph: Graph, prefix: str = "") -> Iterator[tuple[str, Node]]:
    """The nodes of a graph and of all bodies in it, with their paths, in launch order, an owner before its bodies."""
    for node in graph:
        yield prefix + node.name, node
        for number, body in enumerate(bodies_in(node)):
            yield from all_nodes(body, body_prefix(prefix, node.name, number))


def kernel_nodes(graph: Graph, prefix: str = "") -> Iterator[tuple[str, KernelNode]]:
    """The kernel nodes of a graph and of all bodies in it, with their paths, in launch order."""
    return ((path, node) for path, node in all_nodes(graph, prefix) if isinstance(node, KernelNode))
