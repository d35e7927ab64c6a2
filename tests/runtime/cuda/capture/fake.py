"""A driver with one captured graph in it: nodes, edges with kinds, functions, memory; and what is made of it."""

from __future__ import annotations

import ctypes
import enum
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from tests.captured.samples import BLOCKS, SIZE

__all__ = ["FakeCuda", "handle"]


class Handle(int):
    """A handle; its type has the name that the bindings give it."""

    def __new__(cls, init_value: int = 0) -> Handle:
        return int.__new__(cls, init_value)


class CUgraph(Handle):
    pass


class CUfunction(Handle):
    pass


class NodeType(enum.Enum):
    CU_GRAPH_NODE_TYPE_KERNEL = 0
    CU_GRAPH_NODE_TYPE_MEMCPY = 1
    CU_GRAPH_NODE_TYPE_MEMSET = 2
    CU_GRAPH_NODE_TYPE_HOST = 3
    CU_GRAPH_NODE_TYPE_GRAPH = 4
    CU_GRAPH_NODE_TYPE_EMPTY = 5
    CU_GRAPH_NODE_TYPE_CONDITIONAL = 13


def handle(number: int) -> CUgraph:
    return CUgraph(number)


@dataclass
class FakeNode:
    kind: NodeType
    params: Any = None
    attributes: dict[str, Any] = field(default_factory=dict)


class Names:
    """An enumeration whose members are their own names."""

    def __getattr__(self, name: str) -> str:
        return name


class EdgeData:
    def __init__(self, kind: int = 0, port: int = 0) -> None:
        self.type, self.from_port, self.to_port = kind, port, 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EdgeData) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


class KernelParams(SimpleNamespace):
    pass


_CLONED = 500
"""What the nodes of a clone have more than those of the captured graph, as handles."""


class FakeCuda:
    """Functions as those of ``cuda.bindings.driver``: each returns an error and values."""

    CUgraph = CUgraph
    CUfunction = CUfunction
    CUgraphEdgeData = EdgeData
    CUDA_KERNEL_NODE_PARAMS = KernelParams
    CUgraphDependencyType = SimpleNamespace(CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC=1)
    CUlaunchAttributeID = CUfunction_attribute = CUpointer_attribute = CUdevice_attribute = Names()

    def __init__(self) -> None:
        self.nodes: dict[int, FakeNode] = {}
        self.edges: list[tuple[int, int, EdgeData]] = []
        self.functions: dict[int, tuple[str, list[tuple[int, int]]]] = {}
        self.attributes: dict[int, dict[str, int]] = {}
        self.kept: list[Any] = []
        self.calls: list[tuple[Any, ...]] = []
        self.unreadable: set[str] = set()
        self.inside: dict[int, int] = {}
        """The node of a child graph around a node."""
        self.next = 1000

    # What tests put in

    def add_function(self, number: int, name: str, sizes: list[int]) -> None:
        layout, at = [], 0
        for size in sizes:
            layout.append((at, size))
            at += -(-size // 8) * 8
        self.functions[number] = name, layout

    def add_kernel(self, node: int, function: int, *values: bytes, grid: int = 4, kern: int = 0) -> None:
        buffers = [ctypes.create_string_buffer(value, len(value)) for value in values]
        table = (ctypes.c_void_p * max(len(values), 1))(*(ctypes.addressof(b) for b in buffers))
        self.kept += [buffers, table]
        place = ctypes.addressof(table) if values else 0
        self.nodes[node] = FakeNode(
            NodeType.CU_GRAPH_NODE_TYPE_KERNEL,
            KernelParams(
                func=0 if kern else function, kern=kern, gridDimX=grid, gridDimY=1, gridDimZ=1, blockDimX=128,
                blockDimY=1, blockDimZ=1, sharedMemBytes=0, kernelParams=place,
            ),
        )  # fmt: skip

    def add(self, node: int, kind: str, params: Any = None) -> None:
        self.nodes[node] = FakeNode(NodeType[f"CU_GRAPH_NODE_TYPE_{kind}"], params)

    def add_child(self, node: int, *inner: int) -> None:
        """A child graph of nodes that are there already; its handle is that of its node, and a million."""
        self.add(node, "GRAPH")
        self.inside |= dict.fromkeys(inner, node)

    def connect(self, source: int, target: int, kind: int = 0, port: int = 0) -> None:
        self.edges.append((source, target, EdgeData(kind, port)))

    # The driver

    def made(self, *call: Any) -> tuple[int, Handle]:
        self.next += 1
        self.calls.append((*call, self.next))
        return 0, Handle(self.next)

    def cuGetErrorString(self, error: Any) -> tuple[int, bytes]:  # noqa: N802
        return 0, b"it fails"

    def cuGraphGetNodes(self, graph: Any, count: int) -> tuple[int, list[int], int]:  # noqa: N802
        found = [node for node in self.nodes if self._graph_of(node) == self._at(graph)]
        return 0, found if count else [], len(found)

    def _graph_of(self, node: int) -> int:
        return self.inside.get(node, 0)

    @staticmethod
    def _at(graph: Any) -> int:
        """The node of a child graph; 0 for the outermost graph."""
        return int(graph) - 1_000_000 if int(graph) > 1_000_000 else 0

    def cuGraphChildGraphNodeGetGraph(self, node: int) -> tuple[int, CUgraph]:  # noqa: N802
        return 0, CUgraph(1_000_000 + node)

    def cuGraphGetEdges(self, graph: Any, count: int) -> tuple[Any, ...]:  # noqa: N802
        own = [edge for edge in self.edges if self._graph_of(edge[0]) == self._at(graph)]
        return 0, *([edge[part] for edge in own[:count]] for part in range(3)), len(own)

    def cuGraphNodeGetType(self, node: int) -> tuple[int, NodeType]:  # noqa: N802
        return 0, self.nodes[node].kind

    def _params(self, node: int) -> tuple[int, Any]:
        return 0, self.nodes[node if node in self.nodes else node - _CLONED].params

    cuGraphKernelNodeGetParams = cuGraphMemcpyNodeGetParams = cuGraphMemsetNodeGetParams = _params  # noqa: N815
    cuGraphHostNodeGetParams = _params  # noqa: N815

    def cuGraphKernelNodeGetAttribute(self, node: int, name: str) -> tuple[Any, ...]:  # noqa: N802
        if name in self.unreadable:
            return SimpleNamespace(name="CUDA_ERROR_INVALID_VALUE"), None
        return 0, Value(self.nodes[node].attributes)

    def cuKernelGetFunction(self, kernel: int) -> tuple[int, int]:  # noqa: N802
        return 0, kernel + 100

    def cuFuncGetName(self, function: int) -> tuple[int, bytes]:  # noqa: N802
        return 0, self.functions[function][0].encode()

    def cuFuncGetParamInfo(self, function: int, number: int) -> tuple[int, ...]:  # noqa: N802
        layout = self.functions[function][1]
        return (0, *layout[number]) if number < len(layout) else (1, 0, 0)

    def cuFuncGetModule(self, function: int) -> tuple[int, int]:  # noqa: N802
        return 0, function * 10

    def cuFuncGetAttribute(self, name: str, function: int) -> tuple[int, int]:  # noqa: N802
        return 0, self.attributes.get(function, {}).get(name, 0)

    def cuFuncSetAttribute(self, function: int, name: str, value: int) -> tuple[int]:  # noqa: N802
        self.calls.append(("cuFuncSetAttribute", int(function), name, value))
        return (0,)

    def cuPointerGetAttribute(self, name: str, address: int) -> tuple[int, ...]:  # noqa: N802
        if not any(begin <= address < begin + SIZE for begin in BLOCKS.values()):
            return 1, 0
        return 0, 2 if name.endswith("MEMORY_TYPE") else 0

    def cuMemGetAddressRange(self, address: int) -> tuple[int, int, int]:  # noqa: N802
        begin = next(begin for begin in BLOCKS.values() if begin <= address < begin + SIZE)
        return 0, begin, SIZE

    def cuCtxGetDevice(self) -> tuple[int, int]:  # noqa: N802
        return 0, 0

    def cuDeviceGetName(self, size: int, device: int) -> tuple[int, bytes]:  # noqa: N802
        return 0, b"NVIDIA Fake".ljust(size, b"\0")

    def cuDriverGetVersion(self) -> tuple[int, int]:  # noqa: N802
        return 0, 13000

    def cuDeviceGetAttribute(self, name: str, device: int) -> tuple[int, int]:  # noqa: N802
        return 0, 132

    def cuGraphClone(self, graph: Any) -> tuple[int, Handle]:  # noqa: N802
        return self.made("cuGraphClone", int(graph))

    def cuGraphNodeFindInClone(self, node: int, graph: Any) -> tuple[int, int]:  # noqa: N802
        return 0, node + _CLONED

    def cuModuleLoadData(self, code: bytes) -> tuple[int, Handle]:  # noqa: N802
        return self.made("cuModuleLoadData", code)

    def cuModuleGetFunction(self, module: Any, name: bytes) -> tuple[int, Handle]:  # noqa: N802
        return self.made("cuModuleGetFunction", int(module), name)

    def cuStreamCreate(self, flags: int) -> tuple[int, Handle]:  # noqa: N802
        return self.made("cuStreamCreate", flags)

    def cuMemAlloc(self, size: int) -> tuple[int, Handle]:  # noqa: N802
        return self.made("cuMemAlloc", size)

    def cuGraphInstantiate(self, graph: Any, flags: int) -> tuple[int, Handle]:  # noqa: N802
        return self.made("cuGraphInstantiate", int(graph), flags)

    def __getattr__(self, name: str) -> Any:
        """All else succeeds, and is noted."""
        if not name.startswith("cu"):
            raise AttributeError(name)

        def call(*arguments: Any) -> tuple[int]:
            self.calls.append((name, *arguments))
            return (0,)

        return call


class Value:
    """``CUlaunchAttributeValue``, with the fields that are asked for."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.cooperative = given.get("cooperative", 0)
        self.priority = given.get("priority", 0)
        self.memSyncDomain = 0
        self.sharedMemCarveout = 0
        x, y, z = given.get("cluster", (0, 0, 0))
        self.clusterDim = SimpleNamespace(x=x, y=y, z=z)
        self.deviceUpdatableKernelNode = SimpleNamespace(deviceUpdatable=given.get("updatable", 0))
        self.clusterSchedulingPolicyPreference = given.get("scheduling", 0)
        self.memSyncDomainMap = SimpleNamespace(default_=0, remote=given.get("remote_domain", 1))
        self.preferredClusterDim = SimpleNamespace(x=given.get("preferred", 0), y=0, z=0)
        self.accessPolicyWindow = SimpleNamespace(
            num_bytes=given.get("window", 0), base_ptr=given.get("window_at", 0), hitRatio=0.0, hitProp=0, missProp=0
        )
