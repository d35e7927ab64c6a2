"""Random graphs of what :func:`forerun.testing.graphs` leaves out, since it need not run: for checkers and rewrites.

Chains that rules fuse, and among their nodes others that write the same temporaries through page tables and index
pointers, that touch columns of very many rows, copy asynchronously, run on another device, or allocate and free.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from random import Random
from typing import TypeAlias

from hypothesis import strategies as st

from forerun.ir import nodes
from forerun.ir.buffer import Allocation, Buffer, Paged, Ragged
from forerun.ir.fusion import fusion_rules
from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel
from forerun.ir.region import BufferView, region
from forerun.ir.types import DEVICE0, HOST, BufferRole, DType, Place
from forerun.testing import hashing
from forerun.testing.kernel_strategy import pick
from forerun.testing.ordering import ordered
from forerun.testing.rare_kernels import COLUMNS, launches_of, rare_kernels

__all__ = ["rare_graphs"]

_ROWS = (8, 65_536, 70_001)
"""Rows of the matrices: few, and more than a list of runs may hold."""

_PLACES = (DEVICE0, DEVICE0, Place("device", 1))
_KINDS = ("kernel",) * 3 + ("copy", "fill", "host", "record", "wait", "empty", "child", "if", "while", "switch")
_INDEX: Mapping[str, Paged | Ragged] = {"p": Paged("table", 1), "r": Ragged("offsets")}
_BODIES = {"if": 2, "while": 1, "switch": 2}

_Arguments: TypeAlias = tuple[tuple[str, nodes.Argument], ...]


@cache
def _examples() -> list[tuple[str, int]]:
    return [(name, seed) for name in sorted(fusion_rules()) for seed in range(3)]


@dataclass
class _Memory:
    """The buffers that rare nodes share, which of them some node uses, and the kernels that occur.

    One of the matrices lies at ``place``; ``chain`` are temporaries and state of the chain that rules fuse.
    """

    dtype: DType
    rows: int
    place: Place
    chain: Sequence[Buffer]
    used: dict[str, Buffer] = field(default_factory=dict)
    kernels: list[Kernel] = field(default_factory=list)

    def matrix(self, name: str) -> Buffer:
        """A matrix: ``m``, its bytes through a page table ``p`` or an index pointer ``r``, or another matrix ``n``."""
        index = _INDEX.get(name)
        home = "n" if name == "n" else "m"
        found = Buffer(name, self.dtype, (self.rows, COLUMNS), BufferRole.STATE, home, index=index)
        return self.use(found)

    def over(self, under: Buffer, kind: str) -> Buffer:
        """The bytes of one of the chain's buffers, through a page table or an index pointer."""
        return self.use(replace(under, name=f"{kind}.{under.name}", index=_INDEX[kind]))

    def use(self, buffer: Buffer) -> Buffer:
        """The buffer, and what its index is read from, which will be declared."""
        self.used[buffer.name] = buffer
        if isinstance(buffer.index, Paged):
            self.use(Buffer("table", DType.I32, (2,), BufferRole.INPUT, "table", bounds=(0, 1)))
        elif isinstance(buffer.index, Ragged):
            self.use(Buffer("offsets", DType.U32, (3,), BufferRole.PARAM, "offsets"))
        return buffer

    def small(self, name: str) -> Buffer:
        """A position (an input), a condition or host memory (state)."""
        if name == "pos":
            return self.use(Buffer(name, DType.U64, (1,), BufferRole.INPUT, name, bounds=(2, 2), ascending=True))
        if name == "c":
            return self.use(Buffer(name, DType.U8, (1,), BufferRole.STATE, name))
        return self.use(Buffer(name, DType.I32, (4,), BufferRole.STATE, name))

    def allocations(self, present: Iterable[str]) -> list[Allocation]:
        """The memory under the buffers that occur, without what is there already."""
        sizes: dict[str, int] = {}
        for buffer in self.used.values():
            sizes[buffer.allocation] = max(sizes.get(buffer.allocation, 0), buffer.stop)
        places = {"n": self.place, "h": HOST}
        return [Allocation(a, size, places.get(a, DEVICE0)) for a, size in sizes.items() if a not in set(present)]


def rare_graphs(max_nodes: int = 4) -> st.SearchStrategy[Graph]:
    """Valid graphs without races whose nodes do what few do; the reference target cannot run most of them.

    Each begins with an example of a fusion rule. Kernels have any element type, alignment, accepted launches and
    source, phases with any clauses, roles with warps, barriers of the grid, or no body at all. They access
    columns of 65,536 rows and more, and bytes that page tables and index pointers choose, those of the chain's
    temporaries among them.

    Args:
        max_nodes: The most nodes besides those of the chain and of its memory.

    Example:
        >>> from hypothesis import given, settings
        >>> from forerun.ir.verify import verify
        >>> @settings(max_examples=5, deadline=None, database=None)
        ... @given(rare_graphs())
        ... def test(graph):
        ...     assert verify(graph) == []
        >>> test()
    """
    return _graphs(max_nodes)


@st.composite
def _graphs(draw: st.DrawFn, max_nodes: int) -> Graph:
    name, seed = draw(pick(_examples()))
    chain = fusion_rules()[name].example(Random(seed))
    shared = [b for b in chain.buffers.values() if b.role in (BufferRole.TEMP, BufferRole.STATE) and b.index is None]
    memory = _Memory(draw(st.sampled_from(DType)), draw(st.sampled_from(_ROWS)), draw(st.sampled_from(_PLACES)), shared)
    order = list(chain)
    for number in range(draw(st.integers(1, max_nodes))):
        at = draw(st.integers(0, len(order)))
        order.insert(at, draw(_nodes(memory, f"rare{number}", _KINDS, _filled(chain, order[:at]))))
    managed = draw(st.booleans())
    order = _managed(chain, order) if managed else order
    buffers = {**chain.buffers, **memory.used}
    allocations = [*chain.allocations.values(), *memory.allocations(chain.allocations)]
    kernels = [*chain.kernels.values(), *memory.kernels]
    return ordered(
        Graph("rare", allocations, buffers.values(), kernels, order), draw(st.sampled_from(["stream", "dag"]))
    )


def _filled(chain: Graph, before: Iterable[nodes.Node]) -> frozenset[str]:
    """The chain's allocations that nodes before have certainly written, at least in part."""
    return frozenset(
        chain.buffers[argument.buffer].allocation
        for node in before
        if isinstance(node, nodes.KernelNode) and node.name in chain.nodes
        for _, argument in node.arguments
        if isinstance(argument, nodes.BufferArgument) and argument.buffer in chain.buffers
    )


def _managed(chain: Graph, order: Sequence[nodes.Node]) -> list[nodes.Node]:
    """The nodes, with the memory of all temporaries of the chain allocated before, and freed after them."""
    kept = {b.allocation for b in chain.buffers.values() if b.role is not BufferRole.TEMP}
    names = [a for a in chain.allocations if a not in kept]
    begins: list[nodes.Node] = [nodes.AllocNode(f"alloc.{name}", name) for name in names]
    return [*begins, *order, *(nodes.FreeNode(f"free.{name}", name) for name in names)]


@st.composite
def _nodes(draw: st.DrawFn, memory: _Memory, name: str, kinds: Sequence[str], filled: frozenset[str]) -> nodes.Node:
    """A node of one of the kinds; temporaries of the chain that are not among the filled ones are not read."""
    kind, place = draw(pick(kinds)), draw(st.sampled_from(_PLACES))
    match kind:
        case "kernel":
            return draw(_launches(memory, name, filled))
        case "copy":
            ends = (
                BufferView(memory.matrix("n").name, region((0, 2))),
                BufferView(memory.matrix("m").name, region((2, 4))),
            )
            source, target = draw(pick([ends, ends[::-1]]))
            return nodes.MemcpyNode(name, source, target, place)
        case "fill":
            buffer = memory.matrix(draw(st.sampled_from("mpr"))) if memory.dtype.itemsize <= 4 else memory.small("c")
            return nodes.MemsetNode(name, BufferView(buffer.name), 0, place)
        case "host":
            view, half = BufferView(memory.small("h").name), BufferView("h", region((0, 2)))
            declared = [((), ()), ((view,), ()), ((half, view), (view,))]
            # The call that may do anything orders everything, so it is drawn most.
            calls = [(False, declared[0])] * 3 + [(pure, found) for found in declared for pure in (False, True)]
            pure, (reads, writes) = draw(pick(calls))
            return nodes.HostCallbackNode(name, f"{hashing.__name__}:store_4", reads, writes, pure=pure)
        case "record":
            return nodes.EventRecordNode(name, "event", place)
        case "wait":
            return nodes.EventWaitNode(name, "event", place)
        case "empty":
            return nodes.EmptyNode(name, place)
    inside = [draw(_nodes(memory, f"{name}.{i}", _KINDS[:5], filled)) for i in range(_BODIES.get(kind, 1))]
    bodies = tuple(Graph("body", nodes=[node]) for node in inside)
    if kind == "child":
        return nodes.ChildGraphNode(name, bodies[0], place)
    return nodes.ConditionalNode(name, kind, memory.small("c").name, bodies, place)


@st.composite
def _launches(draw: st.DrawFn, memory: _Memory, name: str, filled: frozenset[str]) -> nodes.KernelNode:
    """A launch of a kernel of its own that reads one buffer and writes another, with bytes of their own."""
    source, target = draw(pick([("n", "m"), ("n", "p"), ("n", "r"), ("m", "n"), ("p", "n"), ("r", "n")]))
    read, written = memory.matrix(source), memory.matrix(target)
    black_box, beside = draw(pick([False] * 9 + [True])), draw(st.booleans())
    # A black box reads all that it may write.
    fitting: list[Buffer] = [
        b for b in memory.chain if not black_box or b.role is BufferRole.STATE or b.allocation in filled
    ]
    if fitting and beside:
        written = memory.over(fitting[draw(st.integers(0, len(fitting) - 1))], draw(st.sampled_from("pr")))
    kernel = draw(rare_kernels(f"{name}.k", read, written, black_box=black_box))
    memory.kernels.append(kernel)
    x, y = (nodes.BufferArgument(b.name, draw(pick([False] * 4 + [True]))) for b in (read, written))
    bound: _Arguments = (("x", x), ("y", y))
    if kernel.scalar_parameters:
        loaded = draw(pick([None, -1, 0, 1]))
        called = "" if "s" in kernel.region_symbols else f"one {kernel.scalar_parameters[0].dtype}"
        value = (
            nodes.ConstantArgument(1, called)
            if loaded is None
            else nodes.ScalarLoad(memory.small("pos").name, 0, loaded)
        )
        bound = (*bound, ("s", value))
    fuses = draw(pick([()] * 9 + [(f"{name}.first", f"{name}.second")]))
    return nodes.KernelNode(name, kernel.name, bound, draw(launches_of(kernel)), draw(st.sampled_from(_PLACES)), fuses)
