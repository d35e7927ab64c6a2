"""From nodes that were drawn one by one to a graph that is valid and free of races, whatever was drawn.

Everything here is a function of what was drawn. What does not fit is replaced by something simpler, never refused, so
that every node can be deleted, or made simpler, on its own: that is what shrinking does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from forerun.ir import nodes
from forerun.ir.graph import Graph
from forerun.ir.kernel import BufferParameter, Kernel, Parameter
from forerun.ir.region import BufferView, region
from forerun.ir.types import DependencyKind, DType
from forerun.testing import hashing
from forerun.testing.buffers import TEMPORARIES, allocations_of, buffers_of, overlap
from forerun.testing.kernel_strategy import WIDTH, written_parameters
from forerun.testing.ordering import ordered, weakened, with_extra

__all__ = ["DRAWN_KINDS", "DrawnNode", "Manner", "assembled"]

DRAWN_KINDS = ("kernel", "copy", "fill", "empty", "event", "host", "child", "conditional", "memory")
"""The kinds of nodes that are drawn."""


@dataclass(frozen=True)
class DrawnNode:
    """A node as drawn, without regard to the others.

    Attributes:
        kind: One of :data:`DRAWN_KINDS`.
        kernel: What a kernel node launches.
        arguments: Buffers by parameter (``a`` and ``y`` for the source and destination of a copy, fill or host call),
            ``s``: the scalar's value, or the buffer that it is loaded from, ``value``: of a fill, ``kind`` and
            ``condition``: of a conditional, ``a``: the temporary whose memory is allocated or freed.
        bodies: The nodes of each body.
        weakened: Bits: which of its incoming dependencies are made programmatic if no race comes of it.
        extra: One more incoming dependency: from how many nodes before, and its kind.
        kept: Whether it becomes part of the graph. A node is made of a dozen choices, too many for the shrinker to
            delete at once; taking back this one is easy.
    """

    kind: str
    kernel: Kernel | None
    arguments: Mapping[str, Any]
    bodies: tuple[tuple[DrawnNode, ...], ...] = ()
    weakened: int = 0
    extra: tuple[int, DependencyKind] | None = None
    kept: bool = True


@dataclass(frozen=True)
class Manner:
    """How nodes are put together; ``kinds`` of dependencies may occur besides full ones."""

    order: str
    kinds: frozenset[DependencyKind]
    dtype: DType = DType.I32


def assembled(drawn: Sequence[DrawnNode], manner: Manner) -> Graph:
    """The graph of the nodes, which are in launch order."""
    return _Tables(manner).graph("random", drawn)


@dataclass
class _Tables:
    """What the nodes so far use, and which temporaries hold something, or were freed by a node."""

    manner: Manner
    used: dict[str, None] = field(default_factory=dict)
    kernels: dict[str, Kernel] = field(default_factory=dict)
    filled: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)

    def graph(self, name: str, drawn: Sequence[DrawnNode], last: Iterable[nodes.Node] = ()) -> Graph:
        """The graph of some nodes, with the tables that it needs."""
        kept = [node for node in drawn if node.kept] or drawn[:1]
        made = [self.node(f"n{i}", node) for i, node in enumerate(kept)]
        buffers = buffers_of(self.used, self.manner.dtype)
        tables = allocations_of(buffers), buffers, self.kernels.values()
        graph = ordered(Graph(name, *tables, [*made, *last]), self.manner.order)
        for node, found in zip(made, kept, strict=True):
            if found.extra is not None:
                graph = with_extra(graph, node.name, found.extra, self.manner.kinds)
            graph = weakened(graph, node.name, found.weakened)
        return graph

    def body(self, name: str, drawn: Sequence[DrawnNode], last: Iterable[nodes.Node] = ()) -> Graph:
        """The graph of some nodes as a body, which names the tables of the graph around it."""
        graph = self.graph(name, drawn, last)
        return Graph(name, nodes=graph.nodes.values(), dependencies=graph.dependencies)

    def node(self, name: str, drawn: DrawnNode) -> nodes.Node:
        """The node, with arguments that fit."""
        arguments = drawn.arguments
        match drawn.kind:
            case "copy":
                source, target = self.reads(arguments["a"]), self.writes(arguments["y"])
                source = "w" if overlap(source, target) else source
                return nodes.MemcpyNode(name, BufferView(self.uses(source)), BufferView(self.fills(target)))
            case "fill":
                return nodes.MemsetNode(name, BufferView(self.fills(self.writes(arguments["y"]))), arguments["value"])
            case "memory":
                return self.memory(name, arguments["a"])
            case "empty":
                return nodes.EmptyNode(name)
            case "event":
                return nodes.EventRecordNode(name, "event")
            case "host":
                return self.host(name, arguments)
            case "child":
                return nodes.ChildGraphNode(name, self.body("body", drawn.bodies[0]))
            case "conditional":
                return self.conditional(name, arguments, drawn.bodies)
        assert drawn.kernel is not None
        return self.launch(name, drawn.kernel, arguments)

    def memory(self, name: str, temporary: str) -> nodes.Node:
        """A node that allocates the memory of a temporary which nothing has used yet, or frees it, once each."""
        if temporary in self.ended:
            return nodes.EmptyNode(name)
        if temporary not in self.used:
            return nodes.AllocNode(name, self.uses(temporary))
        self.ended.add(temporary)
        self.filled.discard(temporary)
        return nodes.FreeNode(name, self.uses(temporary))

    def host(self, name: str, drawn: Mapping[str, Any]) -> nodes.HostCallbackNode:
        """A host call that stores a hash of what it reads: all of a buffer, or half of it."""
        width = drawn["width"]
        target = BufferView(self.uses(drawn["y"]), region() if width == WIDTH else region((0, width)))
        reads = tuple(BufferView(self.uses(buffer)) for buffer in drawn["a"])
        return nodes.HostCallbackNode(
            name, f"{hashing.__name__}:{hashing.store_name(width)}", reads, (target,), pure=drawn["pure"]
        )

    def conditional(
        self, name: str, drawn: Mapping[str, Any], bodies: Sequence[Sequence[DrawnNode]]
    ) -> nodes.ConditionalNode:
        """A conditional; what its bodies fill may not be filled after it. A ``while`` runs at most once."""
        condition = self.uses("c" if drawn["kind"] == "while" else drawn["condition"])
        stop = [nodes.MemsetNode("stop", BufferView("c"), 0)] if drawn["kind"] == "while" else []
        before, made = set(self.filled), []
        for number, body in enumerate(bodies):
            made.append(self.body(f"body{number}", body, stop))
            self.filled = set(before)
        return nodes.ConditionalNode(name, drawn["kind"], condition, tuple(made))

    def launch(self, name: str, kernel: Kernel, drawn: Mapping[str, Any]) -> nodes.KernelNode:
        """A launch whose kernel has no race with itself, and reads no temporary that nothing has filled."""
        written = written_parameters(kernel)
        read = {access.parameter for phase in kernel.phases for access in phase.reads}
        buffers = {p: self.writes(drawn[p]) for p in (p.name for p in kernel.buffer_parameters)}
        for parameter in buffers:
            if parameter in read:
                found = self.reads(buffers[parameter])
                buffers[parameter] = "s0" if found == "y" else found
        if len(kernel.roles or ()) > 1 or any(phase.asynchronous for phase in kernel.phases):
            targets = [buffers[p] for p in buffers if p in written]
            for parameter in buffers:
                if parameter not in written and any(overlap(buffers[parameter], target) for target in targets):
                    buffers[parameter] = "w"
        bound: list[tuple[str, nodes.Argument]] = [(p, nodes.BufferArgument(self.uses(b))) for p, b in buffers.items()]
        if kernel.scalar_parameters:
            value = drawn["s"]
            loaded = isinstance(value, str)
            called = "" if loaded or "s" in kernel.region_symbols else f"s{value}"
            bound.append(("s", nodes.ScalarLoad(self.uses(value)) if loaded else nodes.ConstantArgument(value, called)))
        for phase in kernel.phases:
            self.filled |= {buffers[a.parameter] for a in phase.writes if a.region.is_whole}
        return nodes.KernelNode(name, self.declared(kernel), tuple(bound))

    def declared(self, kernel: Kernel) -> str:
        """The name under which the graph has the kernel, for its element type; equal bodies are one kernel."""
        dtype = self.manner.dtype
        parameters = [_typed(p, dtype) for p in kernel.parameters]
        typed = replace(kernel, parameters=tuple(parameters))
        for name, present in self.kernels.items():
            if replace(present, name=typed.name) == typed:
                return name
        name = f"k{len(self.kernels)}"
        self.kernels[name] = replace(typed, name=name)
        return name

    def reads(self, buffer: str) -> str:
        """The buffer, or state instead of a temporary that holds nothing yet."""
        return "s0" if buffer in TEMPORARIES and buffer not in self.filled else buffer

    def writes(self, buffer: str) -> str:
        """The buffer, or state instead of a temporary whose memory was freed."""
        return "s0" if buffer in self.ended else buffer

    def fills(self, buffer: str) -> str:
        """The buffer, which holds something from now on."""
        self.filled.add(buffer)
        return self.uses(buffer)

    def uses(self, buffer: str) -> str:
        """The buffer, which will be declared."""
        self.used[buffer] = None
        return buffer


def _typed(parameter: Parameter, dtype: DType) -> Parameter:
    """The parameter for elements of that type. What needs an alignment needs that of two elements."""
    if not isinstance(parameter, BufferParameter):
        return parameter
    return replace(parameter, dtype=dtype, align=None if parameter.align is None else 2 * dtype.itemsize)
