"""A driver whose executables can be updated, as inexactly as real ones, and that shows what each of them launches."""

from __future__ import annotations

import ctypes
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from tests.runtime.cuda.capture.fake import FakeCuda, Handle

__all__ = ["UpdatableCaptures"]

Place = tuple[int, int]
"""A node of a clone: the clone, and the captured node."""

_LAUNCH = ("gridDimX", "gridDimY", "gridDimZ", "blockDimX", "blockDimY", "blockDimZ", "sharedMemBytes")


class _Error(int):
    name = "CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE"


_REFUSED = _Error(910)


@dataclass
class Content:
    """What a clone, or an executable, is: nodes by their captured handles, and edges with their kinds and ports."""

    nodes: dict[int, dict[str, Any]]
    edges: dict[tuple[int, int], tuple[int, int]]
    made_of: int = 0
    attributes: dict[int, dict[str, Any]] = field(default_factory=dict)

    def numbered_edges(self) -> dict[tuple[int, int], tuple[int, int]]:
        """Its edges by the numbers of its nodes."""
        number = {handle: index for index, handle in enumerate(self.nodes)}
        return {(number[a], number[b]): kind for (a, b), kind in self.edges.items()}


class UpdatableCaptures(FakeCuda):
    """``refuse`` is how many sets of a node from now on are done before one is refused; ``None`` refuses none."""

    def __init__(self) -> None:
        super().__init__()
        self.clones: dict[int, Content] = {}
        self.executables: dict[int, Content] = {}
        self.code: dict[int, bytes] = {}
        self.loaded: dict[int, tuple[object, ...]] = {}
        self.refuse: int | None = None

    # Clones

    def cuGraphClone(self, graph: Any) -> tuple[int, Handle]:  # noqa: N802
        error, clone = super().cuGraphClone(graph)
        edges = {(a, b): (edge.type, edge.from_port) for a, b, edge in self.edges}
        nodes = {handle: self._told(handle) for handle in self.nodes}
        attributes = {handle: dict(node.attributes) for handle, node in self.nodes.items()}
        self.clones[int(clone)] = Content(nodes, edges, attributes=attributes)
        return error, clone

    def _told(self, handle: int) -> dict[str, Any]:
        node = self.nodes[handle]
        kind = node.kind.name.removeprefix("CU_GRAPH_NODE_TYPE_").lower()
        if kind == "kernel":
            return self._launched(node.params)
        return {"kind": kind, "params": deepcopy(vars(node.params)) if node.params is not None else None}

    def _launched(self, params: Any) -> dict[str, Any]:
        function = int(params.func)
        layout = self.functions[function][1]
        table = (ctypes.c_void_p * max(len(layout), 1)).from_address(int(params.kernelParams)) if layout else ()
        values = tuple(ctypes.string_at(at, size) for at, (_, size) in zip(table, layout, strict=True))
        launch = tuple(int(getattr(params, name)) for name in _LAUNCH)
        return {"kind": "kernel", "function": self.loaded.get(function, function), "launch": launch, "values": values}

    def cuGraphNodeFindInClone(self, node: int, graph: Any) -> tuple[int, Place]:  # type: ignore[override]  # noqa: N802
        return 0, (int(graph), node)

    def cuGraphKernelNodeSetParams(self, place: Place, params: Any) -> tuple[int]:  # noqa: N802
        self.clones[place[0]].nodes[place[1]] = self._launched(params)
        return (0,)

    def cuGraphDestroyNode(self, place: Place) -> tuple[int]:  # noqa: N802
        content = self.clones[place[0]]
        del content.nodes[place[1]]
        content.edges = {pair: kind for pair, kind in content.edges.items() if place[1] not in pair}
        return (0,)

    def cuGraphRemoveDependencies(self, graph: Any, sources: Any, targets: Any, *rest: Any) -> tuple[int]:  # noqa: N802
        for source, target in zip(sources, targets, strict=True):
            del self.clones[int(graph)].edges[source[1], target[1]]
        return (0,)

    def cuGraphAddDependencies(self, graph: Any, sources: Any, targets: Any, edges: Any, count: int) -> tuple[int]:  # noqa: N802
        for source, target, _ in zip(sources, targets, edges, strict=True):
            # As the driver does: the first one's data is what all get.
            self.clones[int(graph)].edges[source[1], target[1]] = edges[0].type, edges[0].from_port
        return (0,)

    def cuGraphDestroy(self, graph: Any) -> tuple[int]:  # noqa: N802
        del self.clones[int(graph)]
        return (0,)

    # Code

    def cuModuleLoadData(self, code: bytes) -> tuple[int, Handle]:  # noqa: N802
        error, module = super().cuModuleLoadData(code)
        self.code[int(module)] = code
        return error, module

    def cuModuleGetFunction(self, module: Any, name: bytes) -> tuple[int, Handle]:  # noqa: N802
        error, function = super().cuModuleGetFunction(module, name)
        layout = next(layout for known, layout in self.functions.values() if known == name.decode())
        self.functions[int(function)] = name.decode(), layout
        self.loaded[int(function)] = "made", self.code[int(module)], name
        return error, function

    def cuFuncSetAttribute(self, function: int, name: str, value: int) -> tuple[int]:  # noqa: N802
        self.loaded[int(function)] = (*self.loaded[int(function)], name, value)
        return (0,)

    def cuModuleUnload(self, module: Any) -> tuple[int]:  # noqa: N802
        del self.code[int(module)]
        return (0,)

    # Executables

    def cuGraphInstantiate(self, graph: Any, flags: int) -> tuple[int, Handle]:  # noqa: N802
        error, executable = super().cuGraphInstantiate(graph, flags)
        self.executables[int(executable)] = deepcopy(self.clones[int(graph)])
        self.executables[int(executable)].made_of = int(graph)
        return error, executable

    def cuGraphExecDestroy(self, executable: Any) -> tuple[int]:  # noqa: N802
        del self.executables[int(executable)]
        return (0,)

    def cuGraphExecKernelNodeSetParams(self, executable: Any, place: Place, params: Any) -> tuple[Any]:  # noqa: N802
        """Launch attributes are not among the parameters: they stay."""
        self.calls.append(("cuGraphExecKernelNodeSetParams", place[1]))
        content = self.executables[int(executable)]
        if self.refuse is not None:
            self.refuse -= 1
        if self.refuse == -1 or place[0] != content.made_of or content.nodes[place[1]]["kind"] != "kernel":
            return (_REFUSED,)
        content.nodes[place[1]] = self._launched(params)
        return (0,)

    def cuGraphExecUpdate(self, executable: Any, graph: Any) -> tuple[Any, None]:  # noqa: N802
        """Kinds and edges are checked; attributes such as a cluster stay as they were, and success is reported."""
        self.calls.append(("cuGraphExecUpdate", int(executable)))
        old, new = self.executables[int(executable)], self.clones[int(graph)]
        first, second = ([node["kind"] for node in content.nodes.values()] for content in (old, new))
        if self.refuse == 0 or first != second or old.numbered_edges() != new.numbered_edges():
            return _REFUSED, None
        for handle, node in zip(old.nodes, new.nodes.values(), strict=True):
            old.nodes[handle] = deepcopy(node)
        return 0, None

    def cuGraphLaunch(self, executable: Any, stream: Any) -> tuple[int]:  # noqa: N802
        assert int(executable) in self.executables
        return super().__getattr__("cuGraphLaunch")(executable, stream)  # type: ignore[no-any-return]

    def state(self, executable: Any) -> tuple[Any, ...]:
        """What an executable launches: nodes, their attributes, and edges. All code is loaded."""
        content = self.executables[int(executable)]
        loaded = set(self.code.values())
        for node in content.nodes.values():
            function = node.get("function", 0)
            assert isinstance(function, int) or function[1] in loaded
        attributes = [content.attributes[handle] for handle in content.nodes]
        return list(content.nodes.values()), attributes, content.numbered_edges()
