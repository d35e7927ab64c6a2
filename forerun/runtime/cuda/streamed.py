"""Launches a graph node by node on a stream, without an executable: for graphs that run once.

One stream runs its work in order, so launch order is kept, and every dependency with it. Waits and triggers of kernels
do nothing then: no launch asks for programmatic dependencies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, assert_never

from forerun.ir import nodes
from forerun.ir.graph import Graph
from forerun.ir.nodes import is_host_work
from forerun.ir.region import Region
from forerun.ir.walk import all_nodes, body_prefix
from forerun.runtime.cuda.driver.driver import Driver
from forerun.runtime.cuda.emit.emitter import Emitter
from forerun.runtime.cuda.emit.pitched import rows_of
from forerun.runtime.cuda.saving import SavedState

__all__ = ["StreamLauncher", "can_stream"]

_FILLS = {1: "cuMemsetD8Async", 2: "cuMemsetD16Async", 4: "cuMemsetD32Async"}


def can_stream(graph: Graph) -> bool:
    """Whether each node is one plain call on a stream: no conditional nodes, clusters, or strided copies."""
    return all(_is_plain(graph, node, path) for path, node in all_nodes(graph))


def _is_plain(graph: Graph, node: nodes.Node, path: str) -> bool:
    match node:
        case nodes.KernelNode():
            return node.launch.cluster is None and not node.launch.cooperative
        case nodes.MemcpyNode():
            ends = node.source, node.destination
            return all(_is_dense(graph, view.buffer, view.region, path) for view in ends)
        case nodes.MemsetNode():
            return _is_dense(graph, node.destination.buffer, node.destination.region, path)
        case nodes.HostCallbackNode() | nodes.EmptyNode() | nodes.AllocNode() | nodes.FreeNode():
            return True
        case nodes.ChildGraphNode():
            return True
        case nodes.ConditionalNode() | nodes.EventRecordNode() | nodes.EventWaitNode():
            return False
        case _:
            assert_never(node)


def _is_dense(graph: Graph, buffer: str, region: Region, path: str) -> bool:
    return rows_of(graph.buffers[buffer], region, path).as_one().count <= 1


class StreamLauncher:
    """All calls of a graph, in order; to be called as ``cuGraphLaunch``, whose executable it ignores."""

    def __init__(self, driver: Driver, graph: Graph, emitter: Emitter, saved: SavedState | None = None) -> None:
        self._driver = driver
        self._graph = graph
        self._emitter = emitter
        first = [] if saved is None else [(self._function("cuLaunchKernel"), *saved.launch)]
        self._calls = [*first, *self._of(graph, "")]

    def __call__(self, executable: Any, stream: Any) -> tuple[Any]:
        """Enqueue everything; what comes after a call that is refused is left out."""
        error: Any = 0
        for call, before, after in self._calls:
            (error, *_) = call(*before, stream, *after)
            if error:
                break
        return (error,)

    def _of(self, graph: Graph, prefix: str) -> Iterator[tuple[Callable[..., Any], tuple[Any, ...], tuple[Any, ...]]]:
        """The calls of a graph or body: each function, and its arguments before and after the stream."""
        for node in graph:
            path = prefix + node.name
            if is_host_work(node):
                yield self._function("cuLaunchHostFunc"), (), (self._emitter.host_function(node, path), 0)
            elif isinstance(node, nodes.KernelNode):
                function, launch, parameters = self._emitter.launch_of(node, path)
                shape = (*launch.grid, *launch.block, launch.shared_bytes)
                yield self._function("cuLaunchKernel"), (function, *shape), (parameters, 0)
            elif isinstance(node, nodes.MemcpyNode):
                source, size = self._place(node.source.buffer, node.source.region, path)
                target, _ = self._place(node.destination.buffer, node.destination.region, path)
                if size:
                    yield self._function("cuMemcpyAsync"), (target, source, size), ()
            elif isinstance(node, nodes.MemsetNode):
                address, size = self._place(node.destination.buffer, node.destination.region, path)
                width = self._graph.buffers[node.destination.buffer].dtype.itemsize
                if size:
                    yield self._function(_FILLS[width]), (address, node.value, size // width), ()
            elif isinstance(node, nodes.ChildGraphNode):
                yield from self._of(node.body, body_prefix(prefix, node.name, 0))

    def _function(self, name: str) -> Callable[..., Any]:
        return self._driver.function(name)

    def _place(self, buffer: str, region: Region, path: str) -> tuple[int, int]:
        rows = rows_of(self._graph.buffers[buffer], region, path).as_one()
        return self._emitter.address(buffer) + rows.offset, math.prod((rows.count, rows.width))
