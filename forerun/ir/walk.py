"""The walk over a graph and the bodies in it, and the paths of what is found there.

The nodes of a body are called ``owner/node``; those of a conditional's second body ``owner/1/node``, and so on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TypeAlias, assert_never

from forerun.ir import nodes
from forerun.ir.graph import Graph

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
    "without_bodies",
]

BodyPath: TypeAlias = tuple[tuple[str, int], ...]
"""Where a body is: from the outermost, the name of each node around it, and which of its bodies."""


def bodies_in(node: nodes.Node) -> tuple[Graph, ...]:
    """The bodies of a node; most kinds of nodes have none."""
    match node:
        case nodes.KernelNode() | nodes.MemcpyNode() | nodes.MemsetNode() | nodes.HostCallbackNode():
            return ()
        case nodes.ChildGraphNode():
            return (node.body,)
        case nodes.ConditionalNode():
            return node.bodies
        case nodes.EmptyNode() | nodes.AllocNode() | nodes.FreeNode() | nodes.EventRecordNode() | nodes.EventWaitNode():
            return ()
        case _:
            assert_never(node)


def with_bodies(node: nodes.Node, bodies: Iterable[Graph]) -> nodes.Node:
    """The node with other bodies, as many as it has."""
    found = tuple(bodies)
    match node:
        case nodes.ChildGraphNode():
            return replace(node, body=found[0])
        case nodes.ConditionalNode():
            return replace(node, bodies=found)
        case nodes.KernelNode() | nodes.MemcpyNode() | nodes.MemsetNode() | nodes.HostCallbackNode():
            return node
        case nodes.EmptyNode() | nodes.AllocNode() | nodes.FreeNode() | nodes.EventRecordNode() | nodes.EventWaitNode():
            return node
        case _:
            assert_never(node)


def without_bodies(node: nodes.Node) -> nodes.Node:
    """The node with empty bodies of the same number."""
    return with_bodies(node, (Graph("body") for _ in bodies_in(node)))


def body_prefix(prefix: str, owner: str, number: int) -> str:
    """What the paths of the nodes in a body begin with, after what the path of its owner begins with."""
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


def all_nodes(graph: Graph, prefix: str = "") -> Iterator[tuple[str, nodes.Node]]:
    """The nodes of a graph and of all bodies in it, with their paths, in launch order, an owner before its bodies."""
    for node in graph:
        yield prefix + node.name, node
        for number, body in enumerate(bodies_in(node)):
            yield from all_nodes(body, body_prefix(prefix, node.name, number))


def kernel_nodes(graph: Graph) -> Iterator[tuple[str, nodes.KernelNode]]:
    """The kernel nodes of a graph and of all bodies in it, with their paths, in launch order."""
    return ((path, node) for path, node in all_nodes(graph) if isinstance(node, nodes.KernelNode))
