"""From nodes that were drawn one by one to a graph that is valid and free of races, whatever was drawn.

Everything here is a function of what was drawn. What does not fit is replaced by something simpler, never refused, so
that every node can be deleted, or made simpler, on its own: that is what shrinking does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from forerun.ir.buffer import Allocation, Buffer
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import (
    Argument,
    BufferArgument,
    ConstantArgument,
    EmptyNode,
    EventRecordNode,
    KernelNode,
    MemcpyNode,
    MemsetNode,
    Node,
    ScalarLoad,
)
from forerun.ir.region import BufferView
from forerun.ir.semantics import check
from forerun.ir.types import BufferRole, DependencyKind, DType
from forerun.passes.infer_dependencies import hazard_dependencies
from forerun.testing.kernel_strategy import WIDTH, written_parameters

__all__ = ["DRAWN_KINDS", "READABLE", "WRITABLE", "DrawnNode", "assembled"]

DRAWN_KINDS = ("kernel", "copy", "fill", "empty", "event")
"""The kinds of nodes that are drawn."""

_ARENA = {"s0": 0, "s1": 2, "s2": 4, "s3": 8}
"""State in one allocation, by its first element: ``s1`` overlaps ``s0`` and ``s2``, ``s3`` stands alone."""

READABLE = (*_ARENA, "x", "w", "t0", "t1")
"""Buffers that a node may read: state, an input, a weight, temporaries."""

WRITABLE = (*_ARENA, "t0", "t1", "y")
"""Buffers that a node may write: state, temporaries, an output."""

_ROLES = {
    "x": BufferRole.INPUT,
    "w": BufferRole.WEIGHT,
    "t0": BufferRole.TEMP,
    "t1": BufferRole.TEMP,
    "y": BufferRole.OUTPUT,
}
_TEMPORARIES = ("t0", "t1")
_CHOICE = Buffer("row", DType.I32, (1,), BufferRole.INPUT, "row", bounds=(0, WIDTH - 1))
"""An input that chooses the element that some kernels access."""


@dataclass(frozen=True)
class DrawnNode:
    """A node as drawn, without regard to the others.

    Attributes:
        kind: One of :data:`DRAWN_KINDS`.
        kernel: What a kernel node launches.
        arguments: Buffers by parameter (``a`` and ``y`` for the source and destination of a copy or fill), ``s``:
            the scalar's value and whether it is loaded from memory instead, ``value``: of a fill.
        weakened: Bits: which of its incoming dependencies are made programmatic if no race comes of it.
        extra: One more incoming dependency: from how many nodes before, and its kind.
        kept: Whether it becomes part of the graph. A node is made of a dozen choices, too many for the shrinker to
            delete at once; taking back this one is easy.
    """

    kind: str
    kernel: Kernel | None
    arguments: Mapping[str, Any]
    weakened: int = 0
    extra: tuple[int, DependencyKind] | None = None
    kept: bool = True


def assembled(drawn: Sequence[DrawnNode], order: str, kinds: Collection[DependencyKind]) -> Graph:
    """The graph of the nodes.

    Args:
        drawn: In launch order.
        order: ``stream`` or ``dag``.
        kinds: Which kinds of dependencies may occur besides full ones.
    """
    kept = [node for node in drawn if node.kept] or drawn[:1]
    tables = _Tables()
    nodes = [tables.node(f"n{i}", node) for i, node in enumerate(kept)]
    graph = Graph("random", tables.allocations(), tables.buffers(), tables.kernels.values(), nodes)
    graph = _ordered(graph, order)
    for node, name in zip(kept, graph.nodes, strict=True):
        graph = _with_extra(graph, name, node, kinds)
        graph = _weakened(graph, name, node.weakened)
    return graph


@dataclass
class _Tables:
    """What the nodes so far use, and which temporaries hold something."""

    used: dict[str, None] = field(default_factory=dict)
    kernels: dict[str, Kernel] = field(default_factory=dict)
    filled: set[str] = field(default_factory=set)

    def node(self, name: str, drawn: DrawnNode) -> Node:
        """The node, with arguments that fit."""
        arguments = drawn.arguments
        match drawn.kind:
            case "copy":
                source, target = self.reads(arguments["a"]), arguments["y"]
                source = "w" if _overlap(source, target) else source
                return MemcpyNode(name, BufferView(self.uses(source)), BufferView(self.fills(target)))
            case "fill":
                return MemsetNode(name, BufferView(self.fills(arguments["y"])), arguments["value"])
            case "empty":
                return EmptyNode(name)
            case "event":
                return EventRecordNode(name, "event")
        assert drawn.kernel is not None
        return self.launch(name, drawn.kernel, arguments)

    def launch(self, name: str, kernel: Kernel, drawn: Mapping[str, Any]) -> KernelNode:
        """A launch whose kernel has no race with itself, and reads no temporary that nothing has filled."""
        written = written_parameters(kernel)
        read = {access.parameter for phase in kernel.phases for access in phase.reads}
        buffers = {p: drawn[p] for p in (p.name for p in kernel.buffer_parameters)}
        for parameter in buffers:
            if parameter in read:
                found = self.reads(buffers[parameter])
                buffers[parameter] = "s0" if found == "y" else found
        if len(kernel.roles or ()) > 1 or any(phase.asynchronous for phase in kernel.phases):
            targets = [buffers[p] for p in buffers if p in written]
            for parameter in buffers:
                if parameter not in written and any(_overlap(buffers[parameter], target) for target in targets):
                    buffers[parameter] = "w"
        bound: list[tuple[str, Argument]] = [(p, BufferArgument(self.uses(b))) for p, b in buffers.items()]
        if kernel.scalar_parameters:
            value, loaded = drawn["s"]
            bound.append(("s", ScalarLoad(self.uses("row")) if loaded else ConstantArgument(value)))
        for phase in kernel.phases:
            self.filled |= {buffers[a.parameter] for a in phase.writes if a.region.is_whole}
        return KernelNode(name, self.declared(kernel), tuple(bound))

    def declared(self, kernel: Kernel) -> str:
        """The name under which the graph has the kernel; equal bodies are one kernel."""
        for name, present in self.kernels.items():
            if replace(present, name=kernel.name) == kernel:
                return name
        name = f"k{len(self.kernels)}"
        self.kernels[name] = replace(kernel, name=name)
        return name

    def reads(self, buffer: str) -> str:
        """The buffer, or state instead of a temporary that holds nothing yet."""
        return "s0" if buffer in _TEMPORARIES and buffer not in self.filled else buffer

    def fills(self, buffer: str) -> str:
        """The buffer, which holds something from now on."""
        self.filled.add(buffer)
        return self.uses(buffer)

    def uses(self, buffer: str) -> str:
        """The buffer, which will be declared."""
        self.used[buffer] = None
        return buffer

    def buffers(self) -> list[Buffer]:
        """The buffers that occur."""
        return [_buffer(name) for name in (*_ARENA, *_ROLES, "row") if name in self.used]

    def allocations(self) -> list[Allocation]:
        """The memory under them."""
        buffers = self.buffers()
        sizes: dict[str, int] = {}
        for buffer in buffers:
            sizes[buffer.allocation] = max(sizes.get(buffer.allocation, 0), buffer.stop)
        return [Allocation(name, size) for name, size in sizes.items()]


def _buffer(name: str) -> Buffer:
    if name == "row":
        return _CHOICE
    if name in _ARENA:
        return Buffer(name, DType.I32, (WIDTH,), BufferRole.STATE, "arena", DType.I32.itemsize * _ARENA[name])
    return Buffer(name, DType.I32, (WIDTH,), _ROLES[name], name)


def _overlap(first: str, second: str) -> bool:
    if first in _ARENA and second in _ARENA:
        return abs(_ARENA[first] - _ARENA[second]) < WIDTH
    return first == second


def _ordered(graph: Graph, order: str) -> Graph:
    """The graph with full dependencies that order all of it, or all that the data demands."""
    edit = graph.edit()
    stream = [Dependency(source, target) for source, target in pairwise(graph.nodes)]
    for dependency in stream if order == "stream" else hazard_dependencies(graph).values():
        edit.add_dependency(dependency)
    return edit.commit()


def _with_extra(graph: Graph, name: str, drawn: DrawnNode, kinds: Collection[DependencyKind]) -> Graph:
    if drawn.extra is None:
        return graph
    distance, kind = drawn.extra
    names = list(graph.nodes)
    at = names.index(name) - distance
    if at < 0 or graph.dependency(names[at], name) is not None:
        return graph
    for choice in (kind, DependencyKind.FULL):
        if choice is DependencyKind.FULL or (choice in kinds and _may_overlap(graph, names[at], name)):
            edit = graph.edit()
            edit.set_dependency(Dependency(names[at], name, choice))
            candidate = edit.commit()
            if check(candidate).proved:
                return candidate
    return graph


def _weakened(graph: Graph, name: str, bits: int) -> Graph:
    """The graph with some of a node's full dependencies made programmatic, as far as no race comes of it."""
    for i, dependency in enumerate(graph.incoming(name)):
        if bits >> i & 1 and dependency.kind is DependencyKind.FULL and _may_overlap(graph, *dependency.pair):
            edit = graph.edit()
            edit.set_dependency(replace(dependency, kind=DependencyKind.PROGRAMMATIC))
            candidate = edit.commit()
            graph = candidate if check(candidate).proved else graph
    return graph


def _may_overlap(graph: Graph, source: str, target: str) -> bool:
    """Whether a dependency between two nodes may be other than full."""
    ends = graph.nodes[source], graph.nodes[target]
    return all(isinstance(node, KernelNode) for node in ends)
