"""A clone of a captured graph in which some nodes run other code, and some edges are others; all else stays."""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Kernel, Role
from forerun.ir.nodes import KernelNode
from forerun.ir.types import DependencyKind
from forerun.ir.walk import bodies_in
from forerun.runtime.cuda.capture.assembled import MadeCode, make_code
from forerun.runtime.cuda.capture.attributes import INSTANTIATION_FLAGS, copy_function_attributes
from forerun.runtime.cuda.capture.kernel_parameters import set_function, set_parameters
from forerun.runtime.cuda.capture.random_numbers import GeneratorAdvance
from forerun.runtime.cuda.capture.session import LiveCapture, raw_graph
from forerun.runtime.cuda.driver.driver import Driver
from forerun.runtime.cuda.driver.errors import CudaError
from forerun.runtime.cuda.driver.scope import Scope
from forerun.runtime.cuda.driver.streams import current_stream, stream_handle
from forerun.runtime.toolchain.compile import processors
from forerun.support.diagnostics import ForerunError, InvalidInput, Unsupported

__all__ = [
    "Clone",
    "CodeMaker",
    "CodeOfNodes",
    "Functions",
    "NodeCode",
    "clone_with",
    "make_clone",
]

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
    """

    def __init__(self, live: LiveCapture, before: Graph, names: tuple[str, ...]) -> None:
        self.live = live
        self.before = before
        self.names = names
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
        return make_code(text, assembler, kernel, function, image, node, self._multiprocessors)


def _multiprocessors(driver: Driver) -> int:
    kind = driver.api.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
    return int(driver.call("cuDeviceGetAttribute", kind, driver.call("cuCtxGetDevice")))


@dataclass
class Clone:
    """An executable graph that takes the place of the program's own. Made by :func:`make_clone`.

    Attributes:
        live: The captured graph, kept so that its memory and modules stay.
        executable: The driver's handle.
        generators: Those of torch's generators that a replay draws from.
        folded: What the copies bring that it lacks, by their numbers; the first replay writes that.
        nodes: The handles of its nodes, by their names.
    """

    live: LiveCapture
    executable: Any
    scope: Scope = field(repr=False)
    identity: object
    generators: tuple[GeneratorAdvance, ...] = ()
    folded: Mapping[int, bytes] = field(default_factory=dict, repr=False)
    nodes: Mapping[str, Any] = field(default_factory=dict, repr=False)
    _is_written: bool = False

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
        if not self.has_source():
            raise InvalidInput("the program's graph was reset", hint="capture it again, and optimize that")
        driver, handle = self.live.driver, current_stream() if stream is None else stream_handle(stream)
        if not self._is_written:
            self._write(handle)
        for generator in self.generators:
            generator.prepare(driver, handle)
        driver.call("cuGraphLaunch", self.executable, handle)

    def _write(self, stream: int) -> None:
        """Put to their destinations, once, what folded copies would bring in each replay."""
        for number, data in self.folded.items():
            transfer = self.live.graph.nodes[number].transfer
            assert transfer is not None
            # Of memory that is not pinned the driver makes a copy within the call.
            source = ctypes.create_string_buffer(data, len(data))
            self.live.driver.call(
                "cuMemcpyHtoDAsync", transfer.destination, ctypes.addressof(source), len(data), stream
            )
        self._is_written = True

    def set_parameters(self, changes: Mapping[str, tuple[tuple[bytes, ...], tuple[bytes, ...]]]) -> None:
        """Give kernel nodes other parameters, in replays from now on; all of them, or none.

        Args:
            changes: What each node has, and what it gets: the bytes of all of its parameters, by its name.

        Raises:
            InvalidInput: If it was closed.
            CudaError: If the driver refuses.
        """
        if self.executable is None:
            raise InvalidInput("the graph is closed", hint="optimize the program's graph again")
        done: list[str] = []
        try:
            for name, (_, new) in changes.items():
                set_parameters(self.live.driver, self.executable, self.nodes[name], new)
                done.append(name)
        except CudaError:
            with suppress(CudaError):  # the first error is the one to tell
                for name in done:
                    set_parameters(self.live.driver, self.executable, self.nodes[name], changes[name][0])
            raise

    def close(self) -> None:
        """Give back what it holds."""
        self.executable = None
        error = self.scope.release()
        if error is not None:
            raise error

    def has_source(self) -> bool:
        """Whether the program's graph is the one that was captured: it was not reset since."""
        try:
            return _identity(self.live.source) == self.identity
        except (ForerunError, RuntimeError):  # torch's pool() raises after a reset
            return False


def _identity(source: Any) -> object:
    """What tells a graph from one that the program captures after a reset: the driver gives out handles again."""
    handle = raw_graph(source)
    pool = getattr(source, "pool", None)
    return (handle, pool()) if callable(pool) else handle


@dataclass(frozen=True, slots=True)
class NodeCode:
    """What a node of a clone runs.

    Attributes:
        code: The cubin.
        more: Words that its kernel has as parameters behind those of the captured one.
    """

    code: bytes
    more: tuple[int, ...] = ()


class Functions:
    """Loads code for clones, each cubin once for a function of the captured graph.

    Args:
        live: The captured graph.
        scope: What owns the modules.
    """

    def __init__(self, live: LiveCapture, scope: Scope) -> None:
        self.live = live
        self.scope = scope
        self._loaded: dict[tuple[int, bytes], Any] = {}

    def of(self, number: int, code: bytes) -> Any:
        """The function of the code for a node of the captured graph, with the attributes of the node's own function.

        Raises:
            CudaError: If the driver does not load it.
        """
        key = self.live.graph.nodes[number].function, code
        if key not in self._loaded:
            driver, function = self.live.driver, self.live.graph.functions[key[0]]
            module = self.scope.own("module", driver.call("cuModuleLoadData", code), "cuModuleUnload")
            found = driver.call("cuModuleGetFunction", module, function.name.encode())
            copy_function_attributes(driver, function.attributes, found)
            self._loaded[key] = found
        return self._loaded[key]


def make_clone(
    live: LiveCapture,
    before: Graph,
    after: Graph,
    names: tuple[str, ...],
    made: Mapping[str, MadeCode],
    folded: Mapping[int, bytes] = MappingProxyType({}),
) -> Clone:
    """Clone the captured graph, and give the clone the code and the edges of a graph that passes made of it.

    ``folded`` are copies that it does not repeat, by their numbers, and what they bring.

    Raises:
        InvalidInput: If the program's graph is not the one that was captured.
        Unsupported: If a node that would change cannot be made again, or the graph has nodes that no clone may have.
        CudaError: If the driver fails.
    """
    changed = (node for node in after if isinstance(node, KernelNode) and node != before.nodes[node.name])
    codes = {one.name: NodeCode(made[one.kernel].code) for one in changed}
    return clone_with(live, before, after, names, codes, folded=folded)


def clone_with(
    live: LiveCapture,
    before: Graph,
    after: Graph,
    names: tuple[str, ...],
    codes: Mapping[str, NodeCode],
    functions: Functions | None = None,
    *,
    folded: Mapping[int, bytes] = MappingProxyType({}),
    without: Collection[int] = (),
) -> Clone:
    """Clone the captured graph with the code that some of its nodes are given, and the edges of another graph.

    Args:
        live: The captured graph.
        before: What it was imported as.
        after: The graph whose edges the clone gets.
        names: The nodes' names, in the order of the captured ones.
        codes: By the nodes' names; the others keep theirs.
        functions: Where code is loaded that outlives the clone; by default the clone owns it.
        folded: Copies that the clone lacks, by their numbers, and what they bring.
        without: The numbers of other nodes that it lacks.

    Raises:
        Unsupported: If the graph has nodes that no clone may have.
        CudaError: If the driver fails.
    """
    _require_source(live)
    _require_changeable(live)
    _require_same_bodies(before, after, names)
    identity = _identity(live.source)
    driver = live.driver
    scope = Scope(driver)
    functions = functions or Functions(live, scope)
    try:
        graph = scope.own("graph", driver.call("cuGraphClone", live.handles.graph), "cuGraphDestroy")
        nodes = {
            name: driver.call("cuGraphNodeFindInClone", own, graph)
            for name, own in zip(names, live.handles.nodes, strict=True)
        }
        for number, name in enumerate(names):
            if name in codes:
                function = functions.of(number, codes[name].code)
                more = [word.to_bytes(8, "little") for word in codes[name].more]
                values = [*live.graph.nodes[number].parameters, *more] if more else ()
                set_function(driver, live.handles.nodes[number], nodes[name], function, values)
        gone = [names[number] for number in (*folded, *without)]
        _set_edges(driver, graph, nodes, before, _without(after, gone))
        for name in gone:
            driver.call("cuGraphDestroyNode", nodes[name])
        executable = driver.call("cuGraphInstantiate", graph, INSTANTIATION_FLAGS)
        scope.own("executable", executable, "cuGraphExecDestroy")
    except BaseException:
        scope.release()
        raise
    return Clone(live, executable, scope, identity, folded=folded, nodes=nodes)


def _require_source(live: LiveCapture) -> None:
    """Refuse a capture whose graph is not there any more, or is another one."""
    try:
        is_same = raw_graph(live.source) == int(live.handles.graph)
    except ForerunError:
        is_same = False
    if not is_same:
        raise InvalidInput("the program's graph was reset", hint="capture it again, and optimize that")


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


def _without(graph: Graph, names: Iterable[str]) -> Graph:
    """The graph without some nodes; what came before each of them comes before what followed it."""
    edit = graph.edit()
    for name in names:
        incoming, outgoing = edit.incoming(name), edit.outgoing(name)
        edit.remove_node(name)
        for source in incoming:
            for target in outgoing:
                edit.add_dependency(Dependency(source.source, target.target))
    return edit.commit()


def _set_edges(driver: Driver, graph: Any, nodes: Mapping[str, Any], before: Graph, after: Graph) -> None:
    old = {dependency.pair: dependency for dependency in before.dependencies}
    new = {dependency.pair: dependency for dependency in after.dependencies}
    gone = [one for pair, one in old.items() if pair not in new or new[pair].kind is not one.kind]
    come = [one for pair, one in new.items() if pair not in old or old[pair].kind is not one.kind]
    for function, changed in (("cuGraphRemoveDependencies", gone), ("cuGraphAddDependencies", come)):
        for same in _by_kind(changed):
            sources, targets = ([nodes[one.pair[end]] for one in same] for end in (0, 1))
            driver.call(function, graph, sources, targets, [_edge(driver, one) for one in same], len(same))


def _by_kind(dependencies: Iterable[Dependency]) -> Iterable[list[Dependency]]:
    """Dependencies of one kind together: in one call, the driver (580, CUDA 13.0) gives all edges the first one's."""
    found: dict[DependencyKind, list[Dependency]] = {}
    for one in dependencies:
        found.setdefault(one.kind, []).append(one)
    return found.values()


def _edge(driver: Driver, dependency: Dependency) -> Any:
    edge = driver.api.CUgraphEdgeData()
    if dependency.kind is not DependencyKind.FULL:
        edge.type = driver.api.CUgraphDependencyType.CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC
        edge.from_port = _TRIGGERED if dependency.kind is DependencyKind.PROGRAMMATIC else _STARTED
    return edge
