"""Captured graphs as graphs of the driver again: nodes with their parameters and attributes, edges with their kinds."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from typing import Any

from forerun.captured.graph import CapturedEdge, CapturedGraph, CapturedNode, Transfer
from forerun.runtime.cuda.capture.attributes import (
    copy_function_attributes,
    set_launch_attributes,
    unknown_attributes,
)
from forerun.runtime.cuda.capture.reading import parameter_layout
from forerun.runtime.cuda.driver import nodeparams
from forerun.runtime.cuda.driver.driver import Driver
from forerun.runtime.cuda.driver.scope import Scope
from forerun.support.diagnostics import InvalidInput

__all__ = ["GraphMaker", "obstacles"]

_KINDS = {"full": 0, "programmatic": 1}
_WIDTHS = (1, 2, 4)


def obstacles(graph: CapturedGraph, prefix: str = "") -> Iterator[str]:
    """Why a graph cannot be made again from what was captured, a sentence each; nothing if it can."""
    for number, node in enumerate(graph.nodes):
        name = f"{prefix}n{number}"
        yield from (f"node '{name}': {reason}" for reason in _obstacles(graph, node))
        if node.body is not None:
            yield from obstacles(node.body, f"{name}/")
    if any(edge.kind not in _KINDS for edge in graph.edges):
        yield f"{f'node {prefix[:-1]!r}' if prefix else 'the graph'} has edges of a kind that is not known"
    for memory in graph.memory:
        if memory.kind not in ("device", "free"):
            yield f"memory of the kind '{memory.kind}' at {memory.address:#x} is not the device's"


def _obstacles(graph: CapturedGraph, node: CapturedNode) -> Iterator[str]:
    yield from node.unsupported
    match node.kind:
        case "kernel":
            function = graph.function_of(node)
            if not function.image:
                yield f"the image of kernel '{function.name}' was not seen"
            elif [len(data) for data in node.parameters] != [size for _, size in function.parameters]:
                yield "its parameters are not known"
            for name in unknown_attributes(node.attributes):
                yield f"its attribute '{name}' cannot be set"
        case "memcpy" | "memset":
            if node.transfer is None or not node.transfer.is_contiguous:
                yield "where its bytes lie was not captured wholly"
            elif node.kind == "memset" and node.transfer.element_size not in _WIDTHS:
                yield f"it fills with elements of {node.transfer.element_size} bytes"
            elif (node.transfer.source is None) != (node.kind == "memset"):
                yield "a copy has a source, and a fill has none"
        case "graph":
            if node.body is None:
                yield "its child graph was not captured"
        case "empty":
            pass
        case _:
            if not node.unsupported:
                yield f"nodes of the kind '{node.kind}' cannot be made again"


class GraphMaker:
    """Makes graphs of the driver.

    Args:
        scope: Who gives handles back.
        captured: The graph; :func:`obstacles` must find none.
        context: The handle of the context that copies and fills run in.

    Raises:
        InvalidInput: If an image does not hold what the capture says.
        CudaError: If the driver does not load an image.
    """

    def __init__(self, scope: Scope, captured: CapturedGraph, context: int) -> None:
        self._scope = scope
        self._driver: Driver = scope.driver
        self._captured = captured
        self._context = context
        self._node_params = nodeparams.NodeParams(self._driver.api)
        self._modules: dict[str, Any] = {}
        self.functions = [self._function(number) for number in range(len(captured.functions))]

    def _function(self, number: int) -> Any:
        """The function's handle; ``None`` if its image was not seen."""
        own = self._captured.functions[number]
        if not own.image:
            return None
        if own.image not in self._modules:
            module = self._driver.call("cuModuleLoadData", self._captured.images[own.image])
            self._modules[own.image] = self._scope.own("module", module, "cuModuleUnload")
        found = self._driver.call("cuModuleGetFunction", self._modules[own.image], own.name.encode())
        if parameter_layout(self._driver, found) != own.parameters:
            raise InvalidInput(
                f"kernel '{own.name}' has other parameters than the capture says", hint="capture it again"
            )
        copy_function_attributes(self._driver, own.attributes, found)
        return found

    def make(self, captured: CapturedGraph) -> tuple[Any, list[Any]]:
        """A graph, which the scope owns, and the handles of its nodes, in the order of the captured ones.

        Raises:
            Unsupported: If the driver refuses a node.
            CudaError: If it fails otherwise.
        """
        graph = self._scope.own("graph", self._driver.call("cuGraphCreate", 0), "cuGraphDestroy")
        incoming: dict[int, list[CapturedEdge]] = {}
        for edge in captured.edges:
            incoming.setdefault(edge.target, []).append(edge)
        handles: dict[int, Any] = {}
        for number in captured.launch_order():
            edges = incoming.get(number, [])
            sources = [handles[edge.source] for edge in edges]
            handles[number] = self._node(captured.nodes[number], graph, sources, edges)
        return graph, [handles[number] for number in range(len(captured.nodes))]

    def _node(self, node: CapturedNode, graph: Any, sources: list[Any], edges: Sequence[CapturedEdge]) -> Any:
        kept: list[Any] = []
        child = None
        if node.body is not None:
            child, _ = self.make(node.body)
            fields = nodeparams.child(int(child))
        elif node.kind == "kernel":
            fields = self._kernel(node, kept)
        elif node.transfer is not None:
            fields = self._transfer(node.transfer)
        else:
            fields = nodeparams.empty()
        self._node_params.view[:] = fields
        data = [self._edge(edge) for edge in edges]
        found = self._driver.call("cuGraphAddNode", graph, sources, data, len(sources), self._node_params.params)
        if child is not None:
            self._scope.release_one(child)  # the driver has cloned it
        if node.attributes:
            set_launch_attributes(self._driver, found, node.attributes)
        return found

    def _kernel(self, node: CapturedNode, kept: list[Any]) -> bytes:
        """``kept`` takes what must live until the driver has copied it."""
        values = [ctypes.create_string_buffer(data, max(len(data), 1)) for data in node.parameters]
        table = (ctypes.c_void_p * max(len(values), 1))(*(ctypes.addressof(value) for value in values))
        kept += [values, table]
        function = int(self.functions[node.function])
        place = ctypes.addressof(table) if values else 0
        return nodeparams.kernel(function, node.grid, node.block, node.shared_bytes, place)

    def _transfer(self, one: Transfer) -> bytes:
        size = one.width * one.rows
        if not size:
            return nodeparams.empty()
        if one.source is None:
            width = one.element_size
            value = one.value & ((1 << 8 * width) - 1)
            return nodeparams.fill(one.destination, value, width, size // width, 1, size, self._context)
        return nodeparams.copy((one.source, size), (one.destination, size), size, 1, self._context)

    def _edge(self, edge: CapturedEdge) -> Any:
        data = self._driver.api.CUgraphEdgeData()
        data.type = _KINDS[edge.kind]
        data.from_port = edge.from_port
        data.to_port = edge.to_port
        return data
