"""From the IR to an explicit CUDA graph, node by node, with typed edges.

The driver's own work through the bindings is about 10 us a node, so nothing is computed twice here: a node's parameters
are 256 bytes, made once for each unit, in which only the address of the arguments is exchanged.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, assert_never

from forerun.ir import nodes
from forerun.ir.buffer import Buffer
from forerun.ir.graph import Dependency, Graph
from forerun.ir.nodes import ChildGraphNode, ConditionalNode, HostCallbackNode, KernelNode, Launch, Node
from forerun.ir.parameters import named_uses
from forerun.ir.types import DependencyKind
from forerun.ir.walk import body_prefix
from forerun.runtime.cuda.codegen.condition import CONDITION_ENTRY
from forerun.runtime.cuda.codegen.stamp import STAMP_ENTRY
from forerun.runtime.cuda.driver import nodeparams
from forerun.runtime.cuda.driver.driver import Driver
from forerun.runtime.cuda.driver.errors import CudaError
from forerun.runtime.cuda.driver.scope import Scope
from forerun.runtime.cuda.emit.arguments import Arguments, ConditionParameters, Words
from forerun.runtime.cuda.emit.changing import ChangingArguments
from forerun.runtime.cuda.emit.constants import NodeConstants
from forerun.runtime.cuda.emit.functions import Functions
from forerun.runtime.cuda.emit.hostcalls import HostCalls
from forerun.runtime.cuda.emit.pitched import Rows, matched, rows_of
from forerun.runtime.cuda.memory.memory import Memory
from forerun.support.diagnostics import Unsupported

__all__ = ["Emitter"]

_PORTS = {DependencyKind.FULL: (0, 0), DependencyKind.PROGRAMMATIC: (1, 1), DependencyKind.LAUNCH_ORDER: (1, 2)}
"""``CUgraphEdgeData`` of a dependency: type (1: programmatic), and the source's port (1: its trigger; 2: its start)."""

_CONDITIONAL_KINDS = {"if": 0, "while": 1, "switch": 2}
"""``CUgraphConditionalNodeType`` by the node's kind."""

_FIRST = "the node before all others"
"""What messages call a node that is not of the graph."""


class Emitter:
    """Makes the CUDA graph of one graph.

    ``seeds`` is the address of the delays' seeds, one a kernel node, 0 for none, ``records`` that of each kernel node's
    records of times, by its path, and ``stamps`` that of two words for each copy whose times are to be noted. ``given``
    are the parameters of nodes that stand for others, by path: the graph has empty nodes there. ``constants`` are those
    of other emitters of the program. The scope owns the graphs that are made on the way.

    Attributes:
        constants: The nodes whose constants have names.
        changing: The arguments of nodes that are updated.
    """

    def __init__(
        self,
        scope: Scope,
        graph: Graph,
        memory: Memory,
        functions: Functions,
        context: Any,
        calls: HostCalls,
        seeds: int = 0,
        records: Mapping[str, int] = MappingProxyType({}),
        stamps: Mapping[str, int] = MappingProxyType({}),
        given: Mapping[str, bytes] = MappingProxyType({}),
        constants: NodeConstants | None = None,
    ) -> None:
        self._scope = scope
        self._driver: Driver = scope.driver
        self._tables = graph
        self._memory = memory
        self._functions = functions
        self._context = context
        self._calls = calls
        self._unit_of = functions.code.unit_of
        self._units = functions.code.units
        made = zip(functions.of_unit, (unit.launch for unit in self._units), strict=True)
        self._templates = [nodeparams.kernel(f, launch.grid, launch.block, launch.shared_bytes) for f, launch in made]
        self._loaded_unit = -1  # whose template the parameters hold
        self._addresses = memory.addresses()
        lengths = [len(unit.slots) for unit in self._units]
        slots = sum(lengths[unit] for unit in self._unit_of.values())
        self._arguments = Arguments(graph, self._addresses, self._units, slots, seeds, records)
        self.constants = NodeConstants(self._driver) if constants is None else constants
        self.changing = ChangingArguments(self._arguments)
        self._named_constants = {use.path for use in named_uses(graph)}
        self._stamps = stamps
        self._given = given
        self._words: list[Words | ConditionParameters] = []
        self._node_params = nodeparams.NodeParams(self._driver.api)
        self._add_node = self._driver.function("cuGraphAddNode")
        self._edges = {kind: _edge(self._driver.api, *ports) for kind, ports in _PORTS.items()}
        self._named: list[tuple[dict[str, Any], str]] = []

    def emit(self, first: bytes | None = None) -> Any:
        """Make the graph; returns its handle, which the scope owns.

        Args:
            first: The parameters of a kernel node that all nodes of the graph come after.

        Raises:
            Unsupported: If CUDA graphs have no such node.
            InvalidInput: If the function of a host node cannot be found.
            CudaError: If the driver refuses a node.
        """
        return self.emit_part(self._tables, first)

    def emit_part(self, part: Graph, first: bytes | None = None) -> Any:
        """Make the graph of some of the nodes; as for :meth:`emit`."""
        made = self._scope.own("graph", self._driver.call("cuGraphCreate", 0), "cuGraphDestroy")
        roots = [] if first is None else [self._add(first, made, _FIRST, [], [])]
        self._fill(part, made, "", roots)
        self._named += [({_FIRST: handle}, "") for handle in roots]
        return made

    def emit_into(self, target: Any, part: Graph, roots: Sequence[Any]) -> Mapping[str, Any]:
        """Add some of the nodes to somebody's graph, after those that are there already; returns their handles by name.

        Raises what :meth:`emit` raises.
        """
        self._arguments.rewind()
        return self._fill(part, target, "", roots)

    def path_of(self, handle: int) -> str:
        """The path of the node that the driver knows by a handle; empty if it is none."""
        found = (prefix + name for handles, prefix in self._named for name, h in handles.items() if int(h) == handle)
        return next(found, "")

    def handles(self) -> list[Any]:
        """The driver's handles of the graph's own nodes, in launch order."""
        return list(self._named[0][0].values())

    def address(self, buffer: str) -> int:
        """The address of a buffer."""
        return self._addresses[buffer]

    def launch_of(self, node: KernelNode, path: str) -> tuple[int, Launch, int]:
        """For a launch without a graph: the function, the launch, and the address of pointers to the arguments."""
        unit = self._unit_of[path]
        address = self._arguments.add(node, unit, path)
        if path in self._named_constants:
            self.constants.add(node, path, self._units[unit], self._arguments, address)
        return self._functions.of_unit[unit], node.launch, address

    def host_function(self, node: Node, path: str) -> int:
        """The address of a C function that does what a node does on the host."""
        assert isinstance(node, HostCallbackNode | KernelNode)
        return self._calls.address_of(self.host_work(node, path), path)

    def kernel_params(self, node: KernelNode, unit: int, arguments: int) -> Any:
        """What the driver takes to change a node, by the address of pointers to its arguments; until the next call."""
        view, launch, usual = self._node_params.view, node.launch, self._units[unit].launch
        if launch is not usual and launch != usual:
            function = self._functions.of_unit[unit]
            view[:] = nodeparams.kernel(function, launch.grid, launch.block, launch.shared_bytes)
            self._loaded_unit = -1
        elif unit != self._loaded_unit:
            view[:] = self._templates[unit]
            self._loaded_unit = unit
        _pack_address(view, nodeparams.KERNEL_PARAMETERS_AT, arguments)
        return self._node_params.params

    def memory_params(self, node: nodes.MemcpyNode | nodes.MemsetNode, path: str) -> Any:
        """The same for a copy or a fill; ``None`` if it would be a node of another kind."""
        fields = self._copy(node, path) if isinstance(node, nodes.MemcpyNode) else self._fill_fields(node, path)
        if fields == nodeparams.empty():
            return None
        self._node_params.view[:] = fields
        self._loaded_unit = -1
        return self._node_params.params

    def _fill(self, graph: Graph, target: Any, prefix: str, roots: Sequence[Any] = ()) -> dict[str, Any]:
        """Add all nodes of a graph or body, after those that are there already; returns their handles by name."""
        handles: dict[str, Any] = {}
        self._named.append((handles, prefix))
        edges = self._edges
        incoming: dict[str, list[Dependency]] = {name: [] for name in graph.nodes}
        for dependency in graph.dependencies:
            incoming[dependency.target].append(dependency)
        for name, node in graph.nodes.items():
            before = incoming[name]
            sources = [handles[dependency.source] for dependency in before] or [*roots]
            kinds = [edges[dependency.kind] for dependency in before] or [edges[DependencyKind.FULL]] * len(roots)
            handles[name] = self._node(node, target, prefix, sources, kinds)
        return handles

    def _kernel(self, node: KernelNode, target: Any, prefix: str, sources: list[Any], kinds: list[Any]) -> Any:
        path = prefix + node.name
        unit = self._unit_of[path]
        view = self._node_params.view
        if unit != self._loaded_unit:
            view[:] = self._templates[unit]
            self._loaded_unit = unit
        address = self._arguments.add(node, unit, path)
        _pack_address(view, nodeparams.KERNEL_PARAMETERS_AT, address)
        error, handle = self._add_node(target, sources, kinds, len(sources), self._node_params.params)
        if error:
            raise self._driver.failure("cuGraphAddNode", error, node=path, kernel=node.kernel)
        if path in self._named_constants:
            self.constants.add(node, path, self._units[unit], self._arguments, address, handle, bytes(view))
        launch = node.launch
        if launch.cooperative or launch.cluster is not None:
            self._set_attributes(node, handle, prefix)
        return handle

    def _set_attributes(self, node: KernelNode, handle: Any, prefix: str) -> None:
        for kind, value in _attributes(self._driver.api, node.launch):
            try:
                self._driver.call("cuGraphKernelNodeSetAttribute", handle, kind, value)
            except CudaError as error:
                raise error.about(node=prefix + node.name, kernel=node.kernel) from error

    def _node(self, node: Node, target: Any, prefix: str, sources: list[Any], kinds: list[Any]) -> Any:
        path = prefix + node.name
        match node:
            case KernelNode() if node.place.kind == "host":
                fields = nodeparams.host(self.host_function(node, path))
            case KernelNode():
                return self._kernel(node, target, prefix, sources, kinds)
            case nodes.MemcpyNode() if path in self._stamps:
                return self._stamped_copy(node, target, path, sources, kinds)
            case nodes.MemcpyNode():
                fields = self._copy(node, path)
            case nodes.MemsetNode():
                fields = self._fill_fields(node, path)
            case nodes.HostCallbackNode():
                fields = nodeparams.host(self.host_function(node, path))
            case nodes.EmptyNode() if path in self._given:
                fields = self._given[path]
            case nodes.EmptyNode() | nodes.AllocNode() | nodes.FreeNode():  # memory is there as long as the program is
                fields = nodeparams.empty()
            case ChildGraphNode():
                return self._child(node, target, prefix, sources, kinds)
            case ConditionalNode():
                return self._conditional(node, target, prefix, sources, kinds)
            case nodes.EventRecordNode() | nodes.EventWaitNode():
                hint = "order other work by streams: launch(stream=...)"
                raise Unsupported(f"node '{path}': target 'cuda' has no {type(node).__name__}", hint=hint)
            case _:
                assert_never(node)
        return self._add(fields, target, path, sources, kinds)

    def _add(
        self, fields: bytes, target: Any, path: str, sources: list[Any], kinds: list[Any], kernel: str = ""
    ) -> Any:
        self._node_params.view[:] = fields
        self._loaded_unit = -1
        error, handle = self._add_node(target, sources, kinds, len(sources), self._node_params.params)
        if error:
            raise self._driver.failure("cuGraphAddNode", error, node=path, kernel=kernel)
        return handle

    def _stamped_copy(
        self, node: nodes.MemcpyNode, target: Any, path: str, sources: list[Any], kinds: list[Any]
    ) -> Any:
        """A copy between two kernels that note the time; whoever comes after the copy comes after both."""
        full = [self._edges[DependencyKind.FULL]]
        before = self._stamp(target, path, self._stamps[path], sources, kinds)
        copy = self._add(self._copy(node, path), target, path, [before], full)
        return self._stamp(target, path, self._stamps[path] + 8, [copy], full)

    def _stamp(self, target: Any, path: str, place: int, sources: list[Any], kinds: list[Any]) -> Any:
        words = Words(place)
        self._words.append(words)
        one = 1, 1, 1
        fields = nodeparams.kernel(self._functions.stamp, one, one, 0, words.address)
        return self._add(fields, target, path, sources, kinds, STAMP_ENTRY)

    def host_work(self, node: HostCallbackNode | KernelNode, path: str) -> Callable[[], None]:
        """What a node does on the host; all that it uses lies there.

        Raises:
            InvalidInput: If a function cannot be found.
            Unsupported: If a kernel has none, or uses memory of the device.
        """
        place = f"node '{path}'"
        if isinstance(node, HostCallbackNode):
            return self._calls.timed(path, self._calls.call(node, place, self._locate))
        for _, argument in node.arguments:
            buffer = "" if isinstance(argument, nodes.ConstantArgument) else argument.buffer
            if buffer and not self._memory.is_on_host(buffer):
                hint = "let 'fuse-splits' follow 'place': it copies what nodes of several places use"
                raise Unsupported(f"{place} runs on the host, but %{buffer} lies on the device", hint=hint)
        return self._calls.timed(path, self._calls.kernel(self._tables, node, place, self._locate))

    def _locate(self, buffer: str) -> tuple[Buffer, int]:
        return self._tables.buffers[buffer], self._addresses[buffer]

    def _copy(self, node: nodes.MemcpyNode, path: str) -> bytes:
        buffers = self._tables.buffers
        views = node.source, node.destination
        found = [rows_of(buffers[view.buffer], view.region, path) for view in views]
        if found[0].count == 0:
            return nodeparams.empty()
        ends = matched(found[0], found[1], path)
        described = [self._copy_end(view.buffer, rows) for view, rows in zip(views, ends, strict=True)]
        return nodeparams.copy(described[0], described[1], ends[0].width, ends[0].count, int(self._context))

    def _copy_end(self, buffer: str, rows: Rows) -> tuple[int, int]:
        pitch = -rows.pitch if self._memory.is_on_host(buffer) else rows.pitch
        return self._addresses[buffer] + rows.offset, pitch

    def _fill_fields(self, node: nodes.MemsetNode, path: str) -> bytes:
        buffer = self._tables.buffers[node.destination.buffer]
        rows = rows_of(buffer, node.destination.region, path).as_one()
        if rows.count == 0:
            return nodeparams.empty()
        itemsize = buffer.dtype.itemsize
        address = self._addresses[buffer.name] + rows.offset
        width = rows.width // itemsize
        return nodeparams.fill(address, node.value, itemsize, width, rows.count, rows.pitch, int(self._context))

    def _child(self, node: ChildGraphNode, target: Any, prefix: str, sources: list[Any], kinds: list[Any]) -> Any:
        path = prefix + node.name
        if any(isinstance(inner, ConditionalNode) for inner in node.body):
            message = f"node '{path}': CUDA allows no conditional nodes in child graphs"
            raise Unsupported(message, hint="put the nodes of the child graph into the graph itself")
        body = self._scope.own("graph", self._driver.call("cuGraphCreate", 0), "cuGraphDestroy")
        self._fill(node.body, body, f"{path}/")
        handle = self._add(nodeparams.child(int(body)), target, path, sources, kinds)
        self._scope.release_one(body)  # the driver has cloned it
        return handle

    def _conditional(
        self, node: ConditionalNode, target: Any, prefix: str, sources: list[Any], kinds: list[Any]
    ) -> Any:
        """A kernel that sets the condition, the node, and at the end of the body of a loop that kernel once more."""
        path = prefix + node.name
        condition = int(self._create_condition(target, path))
        setter = self._set_condition(node, target, path, condition, sources, kinds)
        self._named.append(({node.name: setter}, prefix))
        kind = _CONDITIONAL_KINDS[node.kind]
        fields = nodeparams.conditional(condition, kind, len(node.bodies), int(self._context))
        handle = self._add(fields, target, path, [setter], [self._edges[DependencyKind.FULL]])
        made = self._node_params.word(nodeparams.BODIES_AT)
        bodies = (ctypes.c_uint64 * len(node.bodies)).from_address(made)
        # The driver's array is read before nodes are added to the bodies.
        for number, (body, address) in enumerate(zip(node.bodies, tuple(bodies), strict=True)):
            inner = self._driver.api.CUgraph(address)
            handles = self._fill(body, inner, body_prefix(prefix, node.name, number))
            if node.kind == "while":
                ends = [handles[name] for name in handles if not body.has_outgoing(name)]
                full = [self._edges[DependencyKind.FULL]] * len(ends)
                last = self._set_condition(node, inner, path, condition, ends, full)
                self._named.append(({node.name: last}, prefix))
        return handle

    def _create_condition(self, target: Any, path: str) -> Any:
        try:
            return self._driver.call("cuGraphConditionalHandleCreate", target, self._context, 0, 0)
        except CudaError as error:
            raise error.about(node=path) from error

    def _set_condition(
        self, node: ConditionalNode, target: Any, path: str, condition: int, sources: list[Any], kinds: list[Any]
    ) -> Any:
        buffer = self._tables.buffers[node.condition]
        parameters = ConditionParameters(condition, self._addresses[buffer.name], buffer.dtype, node)
        self._words.append(parameters)
        one = (1, 1, 1)
        fields = nodeparams.kernel(self._functions.condition, one, one, 0, parameters.address)
        return self._add(fields, target, path, sources, kinds, CONDITION_ENTRY)


_pack_address = struct.Struct("<Q").pack_into


def _edge(api: Any, kind: int, from_port: int) -> Any:
    edge = api.CUgraphEdgeData()
    edge.type = kind
    edge.from_port = from_port
    return edge


def _attributes(api: Any, launch: Launch) -> list[tuple[Any, Any]]:
    """Attributes of kernel nodes that are not among their parameters."""
    found = []
    if launch.cooperative:
        value = api.CUkernelNodeAttrValue()
        value.cooperative = 1
        found.append((api.CUkernelNodeAttrID.CU_LAUNCH_ATTRIBUTE_COOPERATIVE, value))
    if launch.cluster is not None:
        value = api.CUkernelNodeAttrValue()
        value.clusterDim.x, value.clusterDim.y, value.clusterDim.z = launch.cluster
        found.append((api.CUkernelNodeAttrID.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, value))
    return found
