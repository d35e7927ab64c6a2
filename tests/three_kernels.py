"""All graphs of three kernels on one buffer: 23 bodies each, 27 sets of edges; 328,509 in all.

A body reads the buffer, writes it, or does neither; it waits before that, after it, or not at all; it triggers first,
last, or not at all. Each of the three pairs of kernels has no edge, a full one, or a programmatic one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product

from forerun.ir.buffer import Allocation, Buffer
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Access, BufferParameter, Kernel, Phase, Role, Step, Trigger, Wait
from forerun.ir.nodes import BufferArgument, KernelNode
from forerun.ir.types import BufferRole, DependencyKind, DType

__all__ = ["BODIES", "EDGES", "all_graphs", "graph_of"]

_PHASES = {"none": (), "read": (Phase("p", reads=(Access("b"),)),), "write": (Phase("p", writes=(Access("b"),)),)}


def _bodies() -> list[tuple[Step, ...]]:
    found: dict[tuple[Step, ...], None] = {}
    for access, wait, trigger in product(_PHASES, ("none", "before", "after"), ("none", "first", "last")):
        steps: tuple[Step, ...] = _PHASES[access]
        steps = {"none": steps, "before": (Wait(), *steps), "after": (*steps, Wait())}[wait]
        steps = {"none": steps, "first": (Trigger(), *steps), "last": (*steps, Trigger())}[trigger]
        found[steps] = None
    return list(found)


BODIES = _bodies()
_KINDS = (None, DependencyKind.FULL, DependencyKind.PROGRAMMATIC)
EDGES = list(product(_KINDS, repeat=3))
_MEMORY = Allocation("b", 4)
_BUFFER = Buffer("b", DType.I32, (1,), BufferRole.STATE, "b")
_KERNELS = [Kernel(f"k{i}", (BufferParameter("b", DType.I32),), (Role("r", body),)) for i, body in enumerate(BODIES)]


def graph_of(bodies: tuple[int, ...], kinds: tuple[DependencyKind | None, ...]) -> Graph:
    """The graph of the bodies of those numbers, with an edge of each kind for each pair of kernels in order."""
    nodes = [KernelNode(f"n{i}", f"k{body}", (("b", BufferArgument("b")),)) for i, body in enumerate(bodies)]
    pairs = combinations([node.name for node in nodes], 2)
    edges = [Dependency(u, v, kind) for (u, v), kind in zip(pairs, kinds, strict=True) if kind is not None]
    kernels = [_KERNELS[body] for body in dict.fromkeys(bodies)]
    return Graph("three", [_MEMORY], [_BUFFER], kernels, nodes, edges)


def all_graphs() -> Iterator[Graph]:
    """Every one of them."""
    for bodies in product(range(len(BODIES)), repeat=3):
        for kinds in EDGES:
            yield graph_of(bodies, kinds)
