"""A graph of the driver, node by node, as a :class:`~forerun.captured.CapturedGraph`."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from forerun.captured.graph import (
    CapturedEdge,
    CapturedFunction,
    CapturedGraph,
    CapturedNode,
    Transfer,
)
from forerun.runtime.cuda.capture.attributes import function_attributes, launch_attributes
from forerun.runtime.cuda.capture.details import node_details
from forerun.runtime.cuda.driver.driver import Driver
from forerun.support.diagnostics import Unsupported

__all__ = ["GraphReader", "Handles", "copy_of", "kernel_function", "nodes_and_edges", "parameter_layout"]

_PREFIX = "CU_GRAPH_NODE_TYPE_"
_EDGE_KINDS = {0: "full", 1: "programmatic"}
_HOST, _DEVICE, _ARRAY, _UNIFIED = 1, 2, 3, 4
_MOST_PARAMETERS = 1 << 12


@dataclass
class Handles:
    """The driver's handles of a graph that was read, in the order of the captured one.

    Attributes:
        graph: The ``CUgraph``.
        nodes: The ``CUgraphNode`` of each node.
        functions: The ``CUfunction`` of each function.
        details: What the driver tells of each node besides what its :class:`CapturedNode` says, to be compared: of a
            copy all that it was given, of a child graph those of its nodes. It equals nothing else if it is not known.
    """

    graph: Any
    nodes: list[Any] = field(default_factory=list)
    functions: list[Any] = field(default_factory=list)
    details: list[object] = field(default_factory=list)

    def numbers(self) -> list[int]:
        """All of them, to be compared."""
        return [int(one) for one in (self.graph, *self.nodes, *self.functions)]


def nodes_and_edges(driver: Driver, graph: Any) -> tuple[list[Any], list[tuple[int, int, Any]]]:
    """The nodes of a graph, and its edges as numbers of nodes with their data."""
    count = driver.call("cuGraphGetNodes", graph, 0)[1]
    nodes = list(driver.call("cuGraphGetNodes", graph, count)[0])[:count] if count else []
    number = {int(node): index for index, node in enumerate(nodes)}
    count = driver.call("cuGraphGetEdges", graph, 0)[-1]
    if not count:
        return nodes, []
    sources, targets, data, _ = driver.call("cuGraphGetEdges", graph, count)
    edges = zip(sources, targets, data, strict=True)
    return nodes, [(number[int(a)], number[int(b)], kind) for a, b, kind in edges]


def kernel_function(driver: Driver, parameters: Any) -> Any:
    """The ``CUfunction`` of a kernel node; graphs that torch captures have ``CUkernel`` in some.

    It is an object of its own: the bindings' field is a view of the parameters, and void when these are gone.
    """
    if int(parameters.func):
        return driver.api.CUfunction(init_value=int(parameters.func))
    return driver.call("cuKernelGetFunction", parameters.kern)


def parameter_layout(driver: Driver, function: Any) -> tuple[tuple[int, int], ...]:
    """Offset and size of each parameter: the driver tells until there is none of that number.

    Raises:
        Unsupported: If there are too many.
    """
    get = driver.function("cuFuncGetParamInfo")
    layout: list[tuple[int, int]] = []
    for number in range(_MOST_PARAMETERS):
        error, *found = get(function, number)
        if error:
            return tuple(layout)
        layout.append((int(found[0]), int(found[1])))
    raise Unsupported(f"a kernel with more than {_MOST_PARAMETERS} parameters")


def copy_of(driver: Driver, node: Any) -> CapturedNode:
    """What a copy node copies.

    Raises:
        CudaError: If the driver fails.
    """
    found = driver.call("cuGraphMemcpyNodeGetParams", node)
    source, destination = _end(found, "src"), _end(found, "dst")
    rows = int(found.Height) * int(found.Depth)
    width = int(found.WidthInBytes)
    if source is None or destination is None:
        return CapturedNode("memcpy", unsupported=("it copies from or to an array",))
    extent = max(source[1], destination[1])
    return CapturedNode("memcpy", transfer=Transfer(source[0], destination[0], width, rows, extent))


class GraphReader:
    """Reads graphs; functions are counted in all of them together.

    Args:
        driver: The driver, with the graph's context current.
        image_of: The digest of the image of a function, given with its name; empty if it was not seen.
    """

    def __init__(self, driver: Driver, image_of: Callable[[Driver, Any, str], str]) -> None:
        self.driver = driver
        self.image_of = image_of
        self.functions: list[CapturedFunction] = []
        self.handles: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._layouts: list[tuple[tuple[int, int], ...]] = []

    def read(self, graph: Any) -> tuple[CapturedGraph, Handles]:
        """The nodes, edges and functions of a graph; memory and images are the session's."""
        nodes, edges = nodes_and_edges(self.driver, graph)
        details: list[object] = []
        captured = tuple(self._node(node, details) for node in nodes)
        joined = tuple(
            CapturedEdge(a, b, _EDGE_KINDS.get(int(kind.type), "other"), int(kind.from_port), int(kind.to_port))
            for a, b, kind in edges
        )
        return CapturedGraph(captured, joined, tuple(self.functions)), Handles(graph, nodes, self.handles, details)

    def _node(self, node: Any, details: list[object]) -> CapturedNode:
        kind = self.driver.call("cuGraphNodeGetType", node).name.removeprefix(_PREFIX).lower()
        if kind == "kernel":
            found = self._kernel(node)
            # What cannot be read may be anything.
            details.append(object() if found.unsupported else node_details(self.driver, node, kind))
            return found
        if kind != "graph":
            details.append(node_details(self.driver, node, kind))
        match kind:
            case "memcpy":
                return copy_of(self.driver, node)
            case "memset":
                return self._fill(node)
            case "graph":
                # A body's functions are the outer graph's, so its numbers need no list of their own.
                body, inside = self.read(self.driver.call("cuGraphChildGraphNodeGetGraph", node))
                details.append(tuple(inside.details))
                return CapturedNode(kind, body=body)
            case "empty":
                return CapturedNode(kind)
        return CapturedNode(kind, unsupported=(f"nodes of the kind '{kind}' are checked, but not made again",))

    def _kernel(self, node: Any) -> CapturedNode:
        found = self.driver.call("cuGraphKernelNodeGetParams", node)
        number = self._function(kernel_function(self.driver, found))
        attributes, unsupported = launch_attributes(self.driver, node)
        if attributes.get("device_updatable"):
            unsupported += ("device code may change it",)
        values: tuple[bytes, ...] = ()
        layout = self._layouts[number]
        if layout and not int(found.kernelParams):
            unsupported += ("its parameters were given as one packed block, which the driver does not tell",)
        elif layout:
            table = (ctypes.c_void_p * len(layout)).from_address(int(found.kernelParams))
            sizes = (size for _, size in layout)
            values = tuple(ctypes.string_at(place, size) for place, size in zip(table, sizes, strict=True))
        return CapturedNode(
            "kernel",
            number,
            (int(found.gridDimX), int(found.gridDimY), int(found.gridDimZ)),
            (int(found.blockDimX), int(found.blockDimY), int(found.blockDimZ)),
            int(found.sharedMemBytes),
            values,
            attributes,
            unsupported=unsupported,
        )

    def _function(self, function: Any) -> int:
        handle = int(function)
        if handle not in self._numbers:
            name = self.driver.call("cuFuncGetName", function)
            name = name.decode() if isinstance(name, bytes) else str(name)
            layout = parameter_layout(self.driver, function)
            attributes = function_attributes(self.driver, function)
            image = self.image_of(self.driver, function, name)
            self._numbers[handle] = len(self.functions)
            self.functions.append(CapturedFunction(name, image, "", layout, attributes))
            self.handles.append(function)
            self._layouts.append(layout)
        return self._numbers[handle]

    def _fill(self, node: Any) -> CapturedNode:
        found = self.driver.call("cuGraphMemsetNodeGetParams", node)
        size, width, rows = int(found.elementSize), int(found.width), int(found.height)
        extent = int(found.pitch) * (rows - 1) + size * width
        fill = Transfer(None, int(found.dst), size * width, rows, extent, int(found.value), size)
        return CapturedNode("memset", transfer=fill)


def _end(found: Any, side: str) -> tuple[int, int] | None:
    """Address and extent of one side of a copy; ``None`` if it is an array."""
    kind = int(getattr(found, f"{side}MemoryType"))
    if kind == _ARRAY:
        return None
    address = int(getattr(found, f"{side}Host" if kind == _HOST else f"{side}Device"))
    pitch, height = int(getattr(found, f"{side}Pitch")), int(getattr(found, f"{side}Height"))
    at = int(getattr(found, f"{side}XInBytes")) + pitch * int(getattr(found, f"{side}Y"))
    at += pitch * height * int(getattr(found, f"{side}Z"))
    rows, depth, width = int(found.Height), int(found.Depth), int(found.WidthInBytes)
    extent = pitch * height * (depth - 1) + pitch * (rows - 1) + width
    return address + at, extent
