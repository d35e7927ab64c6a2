"""A clone of a captured graph in which some nodes run other code, and some edges are others; all else stays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Kernel, Role
from forerun.ir.nodes import KernelNode
from forerun.ir.types import DependencyKind
from forerun.ir.walk import bodies_in
from forerun.runtime.cuda.capture.assembled import MadeCode, make_code
from forerun.runtime.cuda.capture.attributes import copy_function_attributes
from forerun.runtime.cuda.capture.session import LiveCapture, raw_graph
from forerun.runtime.cuda.codegen.foreign import Early
from forerun.runtime.cuda.driver.driver import Driver
from forerun.runtime.cuda.driver.scope import Scope
from forerun.runtime.cuda.driver.streams import stream_handle
from forerun.runtime.toolchain.compile import processors
from forerun.support.diagnostics import ForerunError, InvalidInput, Unsupported

__all__ = ["INSTANTIATION_FLAGS", "Clone", "CodeMaker", "CodeOfNodes", "current_stream", "make_clone"]

INSTANTIATION_FLAGS = 1 | 8
"""As torch instantiates: ``AUTO_FREE_ON_LAUNCH`` and ``USE_NODE_PRIORITY``."""

_FIELDS = ("gridDimX", "gridDimY", "gridDimZ", "blockDimX", "blockDimY", "blockDimZ", "sharedMemBytes", "kernelParams")
_TRIGGERED = 1  # CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC
_STARTED = 2  # CU_GRAPH_KERNEL_NODE_PORT_LAUNCH_ORDER


@dataclass(frozen=True)
class CodeOfNodes:
    """What changed kernels became.

    Attributes:
        made: The code, by the kernel's name in the graph.
        unfit: Why functions can have no such code, by their number in the captured graph.
    """

    made: Mapping[str, MadeCode]
    unfit: Mapping[int, str]


_Body = tuple[int, tuple[Role, ...] | None]
"""The number of a function, and what it is to do. Kernels of different graphs have the same names for other bodies."""


class CodeMaker:
    """Makes the code of changed kernels, each body of a function once.

    Args:
        live: The captured graph.
        before: What it was imported as.
        names: The nodes' names, in the order of the captured ones.
        early: See :func:`~forerun.runtime.cuda.capture.assembled.make_code`.
    """

    def __init__(self, live: LiveCapture, before: Graph, names: tuple[str, ...], early: Early) -> None:
        self.live = live
        self.before = before
        self.names = names
        self.early = early
        self._multiprocessors = _multiprocessors(live.driver)
        self._made: dict[_Body, MadeCode | str] = {}

    def prepare(self, graphs: Iterable[Graph]) -> None:
        """Make the code of all kernels of some graphs that have another body than before, all processors at once."""
        wanted = {key: own for graph in graphs for _, key, own in self._changed(graph) if key not in self._made}
        with ThreadPoolExecutor(processors()) as workers:
            self._made |= zip(wanted, workers.map(lambda own: self._make(*own), wanted.values()), strict=True)

    def code(self, graph: Graph) -> CodeOfNodes:
        """The code of the kernels of a graph that have another body than before."""
        self.prepare([graph])
        found = {name: (key[0], self._made[key]) for name, key, _ in self._changed(graph)}
        made = {name: code for name, (_, code) in found.items() if isinstance(code, MadeCode)}
        return CodeOfNodes(made, {number: code for number, code in found.values() if isinstance(code, str)})

    def _changed(self, graph: Graph) -> Iterator[tuple[str, _Body, tuple[int, Kernel]]]:
        """The kernels with another body: their names, their bodies, and a node of each."""
        for number, name in enumerate(self.names):
            node = graph.nodes[name]
            if isinstance(node, KernelNode) and node != self.before.nodes[name]:
                kernel = graph.kernels[node.kernel]
                yield node.kernel, (self.live.graph.nodes[number].function, kernel.roles), (number, kernel)

    def _make(self, number: int, kernel: Kernel) -> MadeCode | str:
        graph = self.live.graph
        node = graph.nodes[number]
        function = graph.function_of(node)
        text, image = graph.texts[function.text], graph.images[function.image]
        assembler = self.live.assemblers[function.text]
        return make_code(text, assembler, kernel, function, image, node, self._multiprocessors, self.early)


def _multiprocessors(driver: Driver) -> int:
    kind = driver.api.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
    return int(driver.call("cuDeviceGetAttribute", kind, driver.call("cuCtxGetDevice")))


@dataclass
class Clone:
    """An executable graph that takes the place of the program's own. Made by :func:`make_clone`.

    Attributes:
        live: The captured graph, kept so that its memory and modules stay.
        executable: The driver's handle.
    """

    live: LiveCapture
    executable: Any
    scope: Scope = field(repr=False)
    handle: int

    def replay(self, stream: Any = None) -> None:
        """Launch it.

        Args:
            stream: A stream of torch, CuPy or cuda.core, or a handle; by default torch's current one, or the default
                stream where torch is not loaded.

        Raises:
            InvalidInput: If it was closed, or the program's graph is not the one that was captured.
            CudaError: If the driver fails.
        """
        if self.executable is None:
            raise InvalidInput("the graph is closed", hint="optimize the program's graph again")
        _require_source(self.live, self.handle)
        self.live.driver.call(
            "cuGraphLaunch", self.executable, current_stream() if stream is None else stream_handle(stream)
        )

    def close(self) -> None:
        """Give back what it holds."""
        self.executable = None
        error = self.scope.release()
        if error is not None:
            raise error


def _require_source(live: LiveCapture, handle: int) -> None:
    """Refuse a capture whose graph is not there any more, or is another one."""
    try:
        is_same = raw_graph(live.source) == handle
    except ForerunError:
        is_same = False
    if not is_same:
        raise InvalidInput("the program's graph was reset", hint="capture it again, and optimize that")


def current_stream() -> int:
    """Torch's current stream; the default stream where torch is not loaded."""
    import sys

    torch = sys.modules.get("torch")
    return int(torch.cuda.current_stream().cuda_stream) if torch is not None else 0


def make_clone(
    live: LiveCapture, before: Graph, after: Graph, names: tuple[str, ...], made: Mapping[str, MadeCode]
) -> Clone:
    """Clone the captured graph, and give the clone the code and the edges of a graph that passes made of it.

    Raises:
        InvalidInput: If the program's graph is not the one that was captured.
        Unsupported: If a node that would change cannot be made again, or the graph has nodes that no clone may have.
        CudaError: If the driver fails.
    """
    _require_source(live, int(live.handles.graph))
    _require_changeable(live)
    _require_same_bodies(before, after, names)
    driver = live.driver
    scope = Scope(driver)
    try:
        graph = scope.own("graph", driver.call("cuGraphClone", live.handles.graph), "cuGraphDestroy")
        nodes = {
            name: driver.call("cuGraphNodeFindInClone", own, graph)
            for name, own in zip(names, live.handles.nodes, strict=True)
        }
        functions: dict[str, Any] = {}
        for number, name in enumerate(names):
            node = after.nodes[name]
            if isinstance(node, KernelNode) and node != before.nodes[name]:
                if node.kernel not in functions:
                    functions[node.kernel] = _loaded(live, scope, number, made[node.kernel])
                _set_function(driver, live.handles.nodes[number], nodes[name], functions[node.kernel])
        _set_edges(driver, graph, nodes, before, after)
        executable = driver.call("cuGraphInstantiate", graph, INSTANTIATION_FLAGS)
        scope.own("executable", executable, "cuGraphExecDestroy")
    except BaseException:
        scope.release()
        raise
    return Clone(live, executable, scope, int(live.handles.graph))


def _require_changeable(live: LiveCapture) -> None:
    for node in live.graph.all_nodes():
        if node.kind in ("mem_alloc", "mem_free", "conditional"):
            raise Unsupported(f"graphs with nodes of the kind '{node.kind}' are checked, but not changed")
        if node.attributes.get("device_updatable"):
            raise Unsupported("graphs with nodes that device code may update are checked, but not changed")


def _require_same_bodies(before: Graph, after: Graph, names: tuple[str, ...]) -> None:
    """A clone's child graphs are copies that the driver made, in which captured nodes cannot be found."""
    for name in names:
        if bodies_in(before.nodes[name]) and after.nodes[name] != before.nodes[name]:
            raise Unsupported(f"node '{name}' is a child graph, whose nodes keep their code and their edges")


def _loaded(live: LiveCapture, scope: Scope, number: int, made: MadeCode) -> Any:
    """The function of new code, with the attributes of the old one."""
    function = live.graph.function_of(live.graph.nodes[number])
    module = scope.own("module", live.driver.call("cuModuleLoadData", made.code), "cuModuleUnload")
    found = live.driver.call("cuModuleGetFunction", module, function.name.encode())
    copy_function_attributes(live.driver, function.attributes, found)
    return found


def _set_function(driver: Driver, captured: Any, node: Any, function: Any) -> None:
    """Let a node of the clone run another function, with the launch and parameters of the captured one."""
    old = driver.call("cuGraphKernelNodeGetParams", captured)
    new = driver.api.CUDA_KERNEL_NODE_PARAMS()
    new.func = function
    for name in _FIELDS:
        setattr(new, name, getattr(old, name))
    driver.call("cuGraphKernelNodeSetParams", node, new)


def _set_edges(driver: Driver, graph: Any, nodes: Mapping[str, Any], before: Graph, after: Graph) -> None:
    old = {dependency.pair: dependency for dependency in before.dependencies}
    new = {dependency.pair: dependency for dependency in after.dependencies}
    gone = [one for pair, one in old.items() if pair not in new or new[pair].kind is not one.kind]
    come = [one for pair, one in new.items() if pair not in old or old[pair].kind is not one.kind]
    for function, changed in (("cuGraphRemoveDependencies", gone), ("cuGraphAddDependencies", come)):
        if changed:
            sources, targets = ([nodes[one.pair[end]] for one in changed] for end in (0, 1))
            driver.call(function, graph, sources, targets, [_edge(driver, one) for one in changed], len(changed))


def _edge(driver: Driver, dependency: Dependency) -> Any:
    edge = driver.api.CUgraphEdgeData()
    if dependency.kind is not DependencyKind.FULL:
        edge.type = driver.api.CUgraphDependencyType.CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC
        edge.from_port = _TRIGGERED if dependency.kind is DependencyKind.PROGRAMMATIC else _STARTED
    return edge
