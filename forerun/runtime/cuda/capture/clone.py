"""A clone of a captured graph in which some nodes run other code, and some edges are others; all else stays."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

from forerun.captured.graph import CapturedFunction
from forerun.ir.graph import Graph
from forerun.ir.nodes import KernelNode
from forerun.ir.walk import bodies_in
from forerun.runtime.cuda.capture.assembled import MadeCode
from forerun.runtime.cuda.capture.attributes import INSTANTIATION_FLAGS, copy_function_attributes
from forerun.runtime.cuda.capture.clone_edges import set_edges, without
from forerun.runtime.cuda.capture.kernel_parameters import KernelCall, set_call, set_function
from forerun.runtime.cuda.capture.random_numbers import GeneratorAdvance
from forerun.runtime.cuda.capture.session import LiveCapture, raw_graph
from forerun.runtime.cuda.driver.errors import CudaError
from forerun.runtime.cuda.driver.scope import Scope
from forerun.runtime.cuda.driver.streams import current_stream, stream_handle
from forerun.support.diagnostics import ForerunError, InvalidInput, Unsupported

__all__ = [
    "Clone",
    "CloneForm",
    "Functions",
    "NodeCode",
    "clone_with",
    "form_of",
    "identity_of",
    "made_graph",
    "make_clone",
    "require_cloneable",
]


@dataclass(frozen=True, slots=True)
class NodeCode:
    """What a node of a clone runs.

    Attributes:
        code: The cubin.
        more: Words that its kernel has as parameters behind those of the captured one.
    """

    code: bytes
    more: tuple[int, ...] = ()


@dataclass(frozen=True)
class CloneForm:
    """How a clone differs from the captured graph.

    Attributes:
        before: What the captured graph was imported as.
        after: The graph whose edges the clone has.
        names: The nodes' names, in the order of the captured ones.
        codes: The code that some nodes run, by their names; the others keep theirs.
        folded: Copies that the clone lacks, by their numbers, and what they bring.
        without: The numbers of other nodes that it lacks.
    """

    before: Graph
    after: Graph
    names: tuple[str, ...]
    codes: Mapping[str, NodeCode]
    folded: Mapping[int, bytes] = field(default_factory=dict, repr=False)
    without: Collection[int] = ()

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """The number of each node, by its name."""
        return {name: number for number, name in enumerate(self.names)}


@dataclass
class Clone:
    """An executable graph that takes the place of the program's own. Made by :func:`make_clone`.

    Attributes:
        live: The captured graph, kept so that its memory and modules stay.
        executable: The driver's handle.
        identity: What tells the program's graph from another one that it captures later.
        form: How it differs from the captured graph. The first replay writes what its folded copies bring.
        nodes: The handles of its nodes, by their names.
        functions: The code that was loaded for it.
        generators: Those of torch's generators that a replay draws from.
        is_written: Whether the folded copies were written.
    """

    live: LiveCapture
    executable: Any
    scope: Scope = field(repr=False)
    identity: object
    form: CloneForm = field(repr=False)
    nodes: Mapping[str, Any] = field(repr=False)
    functions: Functions = field(repr=False)
    generators: tuple[GeneratorAdvance, ...] = ()
    is_written: bool = False

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
        if not self.is_written:
            self._write(handle)
        for generator in self.generators:
            generator.prepare(driver, handle)
        driver.call("cuGraphLaunch", self.executable, handle)

    def _write(self, stream: int) -> None:
        """Put to their destinations, once, what folded copies would bring in each replay."""
        for number, data in self.form.folded.items():
            transfer = self.live.graph.nodes[number].transfer
            assert transfer is not None
            # Of memory that is not pinned the driver makes a copy within the call.
            source = ctypes.create_string_buffer(data, len(data))
            self.live.driver.call(
                "cuMemcpyHtoDAsync", transfer.destination, ctypes.addressof(source), len(data), stream
            )
        self.is_written = True

    def set_parameters(self, changes: Mapping[str, tuple[tuple[bytes, ...], tuple[bytes, ...]]]) -> None:
        """Give kernel nodes other parameters, in replays from now on; all of them, or none.

        Args:
            changes: What each node has, and what it gets: the bytes of all of its parameters, by its name.

        Raises:
            InvalidInput: If it was closed.
            CudaError: If the driver refuses.
        """
        self.set_calls({name: (self.call(name, old), self.call(name, new)) for name, (old, new) in changes.items()})

    def call(self, name: str, parameters: tuple[bytes, ...] | None = None) -> KernelCall:
        """What a kernel node launches, or would launch with other parameters than the captured ones."""
        node = self.live.graph.nodes[self.form.numbers[name]]
        if name in self.form.codes:
            function = self.functions.of(self.live.graph.function_of(node), self.form.codes[name].code)
        else:
            function = self.live.handles.functions[node.function]
        return KernelCall(function, node, node.parameters if parameters is None else parameters)

    def set_calls(self, changes: Mapping[str, tuple[KernelCall, KernelCall]]) -> None:
        """Let kernel nodes launch something else, in replays from now on; all of them, or none.

        Args:
            changes: What each node launches, and what it is to launch, by its name.

        Raises:
            InvalidInput: If it was closed.
            CudaError: If the driver refuses.
        """
        if self.executable is None:
            raise InvalidInput("the graph is closed", hint="optimize the program's graph again")
        done: list[str] = []
        try:
            for name, (_, new) in changes.items():
                set_call(self.live.driver, self.executable, self.nodes[name], new)
                done.append(name)
        except CudaError:
            with suppress(CudaError):  # the first error is the one to tell
                for name in done:
                    set_call(self.live.driver, self.executable, self.nodes[name], changes[name][0])
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
            return identity_of(self.live.source) == self.identity
        except (ForerunError, RuntimeError):  # torch's pool() raises after a reset
            return False


def identity_of(source: Any) -> object:
    """What tells a graph from one that the program captures after a reset: the driver gives out handles again."""
    handle = raw_graph(source)
    pool = getattr(source, "pool", None)
    return (handle, pool()) if callable(pool) else handle


class Functions:
    """Loads code for clones, each cubin once for a function of captured graphs.

    Args:
        scope: What owns the modules.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self._loaded: dict[tuple[object, ...], Any] = {}

    def of(self, function: CapturedFunction, code: bytes) -> Any:
        """The function of the code in place of a captured one, with the attributes of that.

        Raises:
            CudaError: If the driver does not load it.
        """
        key = function.name, tuple(sorted(function.attributes.items())), code
        if key not in self._loaded:
            driver = self.scope.driver
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
    return clone_with(live, form_of(before, after, names, made, folded))


def form_of(
    before: Graph, after: Graph, names: tuple[str, ...], made: Mapping[str, MadeCode], folded: Mapping[int, bytes]
) -> CloneForm:
    """How a clone differs that has the code and the edges of a graph that passes made; see :func:`make_clone`."""
    changed = (node for node in after if isinstance(node, KernelNode) and node != before.nodes[node.name])
    return CloneForm(before, after, names, {one.name: NodeCode(made[one.kernel].code) for one in changed}, folded)


def clone_with(
    live: LiveCapture,
    form: CloneForm,
    functions: Functions | None = None,
    extend: Callable[[Any, Mapping[str, Any]], object] | None = None,
) -> Clone:
    """Clone the captured graph in some form.

    Args:
        live: The captured graph.
        form: How the clone differs from it.
        functions: Where code is loaded that outlives the clone; by default the clone owns it.
        extend: Adds nodes to the ``CUgraph`` before it is instantiated, given that and its nodes by their names.

    Raises:
        InvalidInput: If the program's graph is not the one that was captured.
        Unsupported: If the graph has nodes that no clone may have.
        CudaError: If the driver fails.
    """
    require_cloneable(live, form)
    identity = identity_of(live.source)
    driver = live.driver
    scope = Scope(driver)
    functions = functions or Functions(scope)
    try:
        graph, nodes = made_graph(live, form, functions, scope)
        if extend is not None:
            extend(graph, nodes)
        executable = driver.call("cuGraphInstantiate", graph, INSTANTIATION_FLAGS)
        scope.own("executable", executable, "cuGraphExecDestroy")
    except BaseException:
        scope.release()
        raise
    return Clone(live, executable, scope, identity, form, nodes, functions)


def made_graph(live: LiveCapture, form: CloneForm, functions: Functions, scope: Scope) -> tuple[Any, Mapping[str, Any]]:
    """The ``CUgraph`` of a clone, which the scope owns, and its nodes by their names.

    Raises:
        CudaError: If the driver fails.
    """
    driver, names = live.driver, form.names
    graph = scope.own("graph", driver.call("cuGraphClone", live.handles.graph), "cuGraphDestroy")
    nodes = {
        name: driver.call("cuGraphNodeFindInClone", own, graph)
        for name, own in zip(names, live.handles.nodes, strict=True)
    }
    for number, name in enumerate(names):
        if name in form.codes:
            code, node = form.codes[name], live.graph.nodes[number]
            function = functions.of(live.graph.function_of(node), code.code)
            more = [word.to_bytes(8, "little") for word in code.more]
            values = [*node.parameters, *more] if more else ()
            set_function(driver, live.handles.nodes[number], nodes[name], function, values)
    gone = [names[number] for number in (*form.folded, *form.without)]
    set_edges(driver, graph, nodes, form.before, without(form.after, gone))
    for name in gone:
        driver.call("cuGraphDestroyNode", nodes[name])
    return graph, nodes


def require_cloneable(live: LiveCapture, form: CloneForm) -> None:
    """Check that the captured graph is still there, and that a clone of it may have some form.

    Raises:
        InvalidInput: If the program's graph is not the one that was captured.
        Unsupported: If the graph has nodes that no clone may have.
    """
    _require_source(live)
    _require_changeable(live)
    _require_same_bodies(form.before, form.after, form.names)


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
