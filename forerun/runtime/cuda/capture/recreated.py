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
_PORTS = 256
_OWN_MEMORY = ("device", "free")
_LAST_ADDRESS = 1 << 57
"""No GPU has more bits of addresses."""


def obstacles(graph: CapturedGraph) -> Iterator[str]:
    """Why a graph cannot be made again from what was captured, a sentence each; nothing if it can."""
    for memory in graph.memory:
        if memory.kind not in _OWN_MEMORY:
            yield f"memory of the kind '{memory.kind}' at {memory.address:#x} is not the device's"
        elif memory.stop > _LAST_ADDRESS:
            yield f"memory at {memory.address:#x} reaches behind all addresses"
    for own in graph.functions:
        if not all(_is_int(value) for value in own.attributes.values()):
            yield f"kernel '{own.name}' has attributes out of range"
    yield from _of_nodes(graph, graph, "")


def _of_nodes(graph: CapturedGraph, outer: CapturedGraph, prefix: str) -> Iterator[str]:
    for number, node in enumerate(graph.nodes):
        name = f"{prefix}n{number}"
        yield from (f"node '{name}': {reason}" for reason in _of_node(node, outer))
        if node.body is not None:
            yield from _of_nodes(node.body, outer, f"{name}/")
    for edge in graph.edges:
        if edge.kind not in _KINDS or not (0 <= edge.from_port < _PORTS and 0 <= edge.to_port < _PORTS):
            yield f"the edge from '{prefix}n{edge.source}' to '{prefix}n{edge.target}' is of a kind that is not known"


def _of_node(node: CapturedNode, outer: CapturedGraph) -> Iterator[str]:
    yield from node.unsupported
    match node.kind:
        case "kernel":
            yield from _of_kernel(node, outer)
        case "memcpy" | "memset":
            if node.transfer is None or not node.transfer.is_contiguous:
                yield "where its bytes lie was not captured wholly"
            else:
                yield from _of_transfer(node.kind, node.transfer, outer)
        case "graph":
            if node.body is None:
                yield "its child graph was not captured"
        case "empty":
            pass
        case _:
            if not node.unsupported:
                yield f"nodes of the kind '{node.kind}' cannot be made again"


def _of_kernel(node: CapturedNode, outer: CapturedGraph) -> Iterator[str]:
    function = outer.function_of(node)
    if not function.image:
        yield f"the image of kernel '{function.name}' was not seen"
    elif [len(data) for data in node.parameters] != [size for _, size in function.parameters]:
        yield "its parameters are not known"
    for name in unknown_attributes(node.attributes):
        yield f"its attribute '{name}' cannot be set"
    numbers = (*node.grid, *node.block, node.shared_bytes, *node.attributes.values())
    negative = any(value < 0 for key, value in node.attributes.items() if key != "priority")
    if negative or not all(_is_int(value) for value in numbers) or node.attributes.get("sync_domain", 0) > 1:
        yield "its launch is out of range"


def _of_transfer(kind: str, one: Transfer, outer: CapturedGraph) -> Iterator[str]:
    size = one.width * one.rows
    if (one.source is None) != (kind == "memset"):
        yield "a copy has a source, and a fill has none"
    elif kind == "memset" and (one.element_size not in _WIDTHS or size % one.element_size):
        yield f"it fills {size} bytes with elements of {one.element_size}"
    for address in (one.source, one.destination):
        if size and address is not None and not _is_captured(outer, address, size):
            yield f"its bytes at {address:#x} do not lie in the captured memory"


def _is_captured(graph: CapturedGraph, address: int, size: int) -> bool:
    """Whether bytes lie in one allocation of the device, which may be told in several pieces."""
    end = address
    for memory in graph.memory:
        if memory.kind in _OWN_MEMORY and end in memory:
            end = memory.stop
    return end >= address + size


def _is_int(value: int) -> bool:
    """Whether it is one of C."""
    return -(1 << 31) <= value < 1 << 31


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
        found = self._driver.call("cuModuleGetFunction", self._modules[own.image], own.name.encode(errors="replace"))
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
