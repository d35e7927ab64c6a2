"""Captured graphs as graphs of the IR: what each kernel accesses, from its PTX or its machine code; all else strictly.

Memory is one allocation, in which blocks of the program's allocators are buffers. A kernel reaches those bytes of the
block that its pointer points into which its PTX and its launch tell, and otherwise the whole block. A kernel of which
nothing is known may do anything to all memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from forerun.captured.graph import CapturedFunction, CapturedGraph, CapturedNode, Transfer
from forerun.frontends.captured_kernels import EVERYTHING, KernelReader, ReadKernel, pointer_name, with_fixed_code
from forerun.frontends.captured_memory import CapturedMemory, identifier
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import BufferParameter, Kernel
from forerun.ir.nodes import (
    Argument,
    BufferArgument,
    ChildGraphNode,
    ConstantArgument,
    EmptyNode,
    EventRecordNode,
    EventWaitNode,
    HostCallbackNode,
    KernelNode,
    Launch,
    MemcpyNode,
    MemsetNode,
    Node,
)
from forerun.ir.region import BufferView
from forerun.ir.types import DependencyKind, DType
from forerun.ptx.launched import AtLaunch
from forerun.ptx.ranges import MOST_NUMBERS, Reached
from forerun.support.collection import collection_paused

__all__ = ["ImportedGraph", "import_capture"]

_KINDS = {"full": DependencyKind.FULL, "programmatic": DependencyKind.PROGRAMMATIC}
_PORTS = {"full": 0, "programmatic": 1}
"""Up to which port (``CU_GRAPH_KERNEL_NODE_PORT_...``) an edge orders what its kind says. Others order starts alone."""
_REACHED_BY_THE_HOST = ("host", "managed")
_WIDTHS = {1: DType.U8, 2: DType.U16, 4: DType.U32}
_MOST_INSTRUCTIONS = 400_000
"""How many instructions are looked at for ranges, which takes a second or two; the same kernel with the same numbers
counts once. After these, blocks are whole."""
_MOST_NUMBERS = 1 << 27
"""How many addresses of threads are computed, and what they are made of, in a second or two. After these, what kernels
access is within limits, and not exact."""

_INSIDE = "it stands in a child graph, whose nodes keep their code and their edges"


@dataclass(frozen=True)
class ImportedGraph:
    """A captured graph in both forms.

    Attributes:
        captured: What was captured.
        graph: Its meaning.
        names: The name of each captured node.
        reasons: Why kernels are treated strictly, by the names of their nodes (``n3/n0`` in the child graph that node
            ``n3`` is); empty strings are not there.
        weighed: The numbers of the parameters on whose values it rests which bytes a kernel node accesses.
    """

    captured: CapturedGraph
    graph: Graph
    names: tuple[str, ...]
    reasons: Mapping[str, str] = field(default_factory=dict)
    weighed: Mapping[str, frozenset[int]] = field(default_factory=dict)


def import_capture(
    captured: CapturedGraph, name: str = "captured", *, fixed: Mapping[int, str] | None = None
) -> ImportedGraph:
    """The graph that a program captured, as forerun's passes and checks take it.

    Args:
        captured: As :meth:`CaptureSession.graph` or :func:`forerun.captured.load_capture` gives it.
        name: What it is called.
        fixed: Functions that must keep their code, by their number, and why.

    Raises:
        InvalidInput: If its edges have a cycle.
    """
    with collection_paused():
        return _Importer(captured, name, fixed or {}).run()


class _Importer:
    def __init__(self, captured: CapturedGraph, name: str, fixed: Mapping[int, str]) -> None:
        self.captured = captured
        self.fixed = fixed
        self.name = name
        self.kernels: dict[str, Kernel] = {}
        self.host_function: Kernel | None = None
        self.read: dict[tuple[object, ...], ReadKernel] = {}
        self.reasons: dict[str, str] = {}
        self.weighed: dict[str, frozenset[int]] = {}
        self.reader = KernelReader(captured)
        self.memory = CapturedMemory(captured.memory)
        self.looked_at = 0
        self.numbers = _MOST_NUMBERS
        self.spans: dict[tuple[object, ...], Mapping[str, Reached]] = {}

    def run(self) -> ImportedGraph:
        names = _names(self.captured)
        self.reader.look(self._questions(self.captured))
        nodes = self._nodes(self.captured, "")
        graph = Graph(
            self.name,
            [self.memory.allocation],
            self.memory.buffers.values(),
            self.kernels.values(),
            nodes,
            list(_dependencies(self.captured)),
        )
        return ImportedGraph(self.captured, graph, names, self.reasons, self.weighed)

    def _questions(self, captured: CapturedGraph) -> Iterator[tuple[str, str, frozenset[int] | None, frozenset[int]]]:
        """What is going to be asked of machine code."""
        for node in captured.nodes:
            if node.kind == "kernel":
                function = self.captured.function_of(node)
                if not function.text:
                    pointers = self._pointers(function, node)
                    yield function.image, function.name, _places(pointers), _zeros(function, node)
            elif node.body is not None:
                yield from self._questions(node.body)

    def _nodes(self, captured: CapturedGraph, prefix: str) -> list[Node]:
        """The nodes of the captured graph, or of a child graph in it, whose paths begin with ``prefix``."""
        names = _names(captured)
        return [self._node(names[number], captured.nodes[number], prefix) for number in captured.launch_order()]

    def _view(self, address: int, size: int, dtype: DType = DType.U8) -> BufferView | None:
        """Some bytes; ``None`` if they lie outside what is known."""
        name = self.memory.part(address, size, dtype)
        return None if name is None else BufferView(name)

    # Nodes

    def _node(self, name: str, node: CapturedNode, prefix: str) -> Node:
        match node.kind:
            case "kernel":
                return self._kernel(name, node, prefix)
            case "empty":
                return EmptyNode(name)
            case "host":
                return self._host_function(name, prefix)
            case "event_record":
                return EventRecordNode(name, "event")
            case "wait_event":
                return EventWaitNode(name, "event")
        if node.kind == "graph" and node.body is not None:
            inner = self._nodes(node.body, f"{prefix}{name}/")
            return ChildGraphNode(name, Graph("body", nodes=inner, dependencies=list(_dependencies(node.body))))
        made = self._transfer(name, node.kind, node.transfer) if node.transfer is not None else None
        reason = f"what a node of the kind '{node.kind}' touches is not known"
        return made or self._anything(name, prefix, node.kind, reason)

    def _transfer(self, name: str, kind: str, transfer: Transfer) -> Node | None:
        """A copy or fill without gaps of memory that is known."""
        if not transfer.is_contiguous:
            return None
        size = transfer.width * transfer.rows
        if not size:
            return EmptyNode(name)
        if kind == "memset":
            dtype = _WIDTHS.get(transfer.element_size, DType.U8)
            view = self._view(transfer.destination, size, dtype)
            return None if view is None else MemsetNode(name, view, transfer.value & (1 << 8 * dtype.itemsize) - 1)
        destination = self._view(transfer.destination, size)
        source = None if transfer.source is None else self._view(transfer.source, size)
        return MemcpyNode(name, source, destination) if source is not None and destination is not None else None

    def _anything(self, name: str, prefix: str, what: str, reason: str) -> KernelNode:
        """A node that may do anything to all memory."""
        kernel = Kernel(identifier(what) or "unknown", (BufferParameter(EVERYTHING, DType.U8),))
        self.kernels[kernel.name] = kernel
        self.reasons[prefix + name] = reason
        return KernelNode(name, kernel.name, ((EVERYTHING, BufferArgument(EVERYTHING, partial=True)),))

    def _host_function(self, name: str, prefix: str) -> Node:
        """A function of the program's: it may do anything to the memory that the host reaches."""
        reached = [self.memory.block(memory) for memory in self.captured.memory if memory.kind in _REACHED_BY_THE_HOST]
        if not reached:
            return HostCallbackNode(name, "captured:host_function")
        names = [f"m{number}" for number in range(len(reached))]
        if self.host_function is None:
            kernel = Kernel("host_function", tuple(BufferParameter(parameter, DType.U8) for parameter in names))
            self.host_function = self._declared(ReadKernel(kernel)).kernel
        self.reasons[prefix + name] = "what a function of the host touches is not known"
        arguments = tuple((p, BufferArgument(block, partial=True)) for p, block in zip(names, reached, strict=True))
        return KernelNode(name, self.host_function.name, arguments)

    def _kernel(self, name: str, node: CapturedNode, prefix: str) -> KernelNode:
        function = self.captured.function_of(node)
        nulls = tuple(not any(data) for data in node.parameters)
        pointers = self._pointers(function, node)
        places, zeros = _places(pointers), _zeros(function, node)
        fixed = self.fixed.get(node.function, "") or "; ".join(node.unsupported)
        # Of kernels with PTX, only which parameters are 0 counts.
        inside = bool(prefix)
        key = node.function, fixed, nulls, inside, None if function.text and not fixed else (places, zeros)
        if key not in self.read:
            found = self.reader.read(function, nulls, places, zeros, fixed)
            self.read[key] = self._declared(with_fixed_code(found, function, _INSIDE) if inside else found)
        read = self.read[key]
        if read.ranges is not None:
            scalars = read.ranges.scalars
            self.weighed[prefix + name] = frozenset(n for n, one in enumerate(read.names) if one in scalars)
        arguments = self._arguments(read, node, pointers or {})
        if arguments is None:
            reason = read.reason or "a pointer of it does not point into memory that the driver knows"
            unknown = self._anything(name, prefix, f"{function.name}_unknown", reason)
            return KernelNode(name, unknown.kernel, unknown.arguments, _launch(node))
        if read.reason:
            self.reasons[prefix + name] = read.reason
        return KernelNode(name, read.kernel.name, arguments, _launch(node))

    def _declared(self, read: ReadKernel) -> ReadKernel:
        """The kernel under a name of its own among the graph's."""
        stem = identifier(read.kernel.name) or "kernel"
        name = stem
        while name in self.kernels:
            name = f"{stem}_{len(self.kernels)}"
        kernel = Kernel(name, read.kernel.parameters, read.kernel.roles, read.kernel.implementations)
        self.kernels[name] = kernel
        return replace(read, kernel=kernel)

    def _pointers(self, function: CapturedFunction, node: CapturedNode) -> dict[int, str] | None:
        """The blocks that words of the parameters point into, by the words' offsets.

        ``None`` if one of them is not memory of the device that somebody owns.
        """
        found = {}
        for number, at, value in node.pointers():
            memory = self.memory.around(value)
            if memory is None:
                continue
            if memory.kind != "device":
                return None
            found[function.parameters[number][0] + at] = self.memory.block(memory)
        return found

    def _arguments(
        self, read: ReadKernel, node: CapturedNode, pointers: Mapping[int, str]
    ) -> tuple[tuple[str, Argument], ...] | None:
        """What the parameters are bound to; ``None`` if a pointer points nowhere."""
        found: list[tuple[str, Argument]] = []
        named = {EVERYTHING: EVERYTHING} | {pointer_name(at): block for at, block in pointers.items()}
        spans = self._spans(read, node)
        for number, parameter in enumerate(read.kernel.parameters):
            if parameter.name in named:
                found.append((parameter.name, BufferArgument(named[parameter.name], partial=True)))
                continue
            value = int.from_bytes(node.parameters[number], "little")
            if not isinstance(parameter, BufferParameter):
                found.append((parameter.name, ConstantArgument(value)))
                continue
            reached = spans.get(parameter.name)
            span = None if reached is None else (reached.start, reached.stop)
            buffer = self.memory.reached(value, span)
            if buffer is None:
                return None
            is_exact = reached is not None and reached.is_exact and self.memory.has(value, reached.start, reached.stop)
            found.append((parameter.name, BufferArgument(buffer, partial=not is_exact)))
        return tuple(found)

    def _spans(self, read: ReadKernel, node: CapturedNode) -> Mapping[str, Reached]:
        """The bytes that a node may access of its pointers, as far as its PTX tells; the same for the same launches."""
        if read.ranges is None or self.looked_at > _MOST_INSTRUCTIONS:
            return {}
        values = dict(zip(read.names, node.parameters, strict=False))
        used = tuple(values.get(name) for name in sorted(read.ranges.scalars))
        key = read.kernel.name, node.grid, node.block, used
        if key not in self.spans:
            self.looked_at += read.ranges.size
            before = read.ranges.computed
            found = read.ranges.reached(AtLaunch(node.grid, node.block, values), min(self.numbers, MOST_NUMBERS))
            self.numbers -= read.ranges.computed - before
            self.spans[key] = {f"p{read.names.index(name)}": reached for name, reached in found.items()}
        return self.spans[key]


def _places(pointers: Mapping[int, str] | None) -> frozenset[int] | None:
    """Where in the parameters there are pointers."""
    return None if pointers is None else frozenset(pointers)


def _zeros(function: CapturedFunction, node: CapturedNode) -> frozenset[int]:
    """Where in the parameters there are 64-bit words that are 0."""
    return frozenset(function.parameters[number][0] + at for number, at, value in node.pointers() if value == 0)


def _names(captured: CapturedGraph) -> tuple[str, ...]:
    """The name of each node."""
    return tuple(f"n{number}" for number in range(len(captured.nodes)))


def _dependencies(captured: CapturedGraph) -> Iterator[Dependency]:
    names = _names(captured)
    for edge in captured.edges:
        is_known = edge.from_port <= _PORTS.get(edge.kind, 0) and edge.to_port == 0
        kind = _KINDS.get(edge.kind) if is_known else None
        yield Dependency(names[edge.source], names[edge.target], kind or DependencyKind.LAUNCH_ORDER)


def _launch(node: CapturedNode) -> Launch:
    axes = [node.attributes.get(f"cluster_{axis}", 1) for axis in "xyz"]
    cluster = (axes[0], axes[1], axes[2]) if max(axes) > 1 else None
    return Launch(node.grid, node.block, node.shared_bytes, cluster, bool(node.attributes.get("cooperative")))
