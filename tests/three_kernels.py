"""All graphs of three kernels on one buffer: 23 bodies each, 27 sets of edges; 328,509 in all.

A body reads the buffer, writes it, or does neither; it waits before that, after it, or not at all; it triggers first,
last, or not at all. Each of the three pairs of kernels has no edge, a full one, or a programmatic one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations, product
from typing import TypeAlias

from forerun.ir.buffer import Allocation, Buffer
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Access, Barrier, BufferParameter, Kernel, Phase, Role, Step, Trigger, Wait
from forerun.ir.nodes import BufferArgument, KernelNode
from forerun.ir.types import BufferRole, DependencyKind, DType

__all__ = ["BODIES", "EDGES", "FENCED_BODIES", "Body", "all_graphs", "graph_of", "graph_of_bodies"]

Body: TypeAlias = tuple[tuple[Step, ...], ...]
"""The steps of each role."""

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


def graph_of_bodies(bodies: tuple[Body, ...], kinds: tuple[DependencyKind | None, ...]) -> Graph:
    """The graph of any bodies, given as the roles' steps, with an edge of each kind for each pair in order."""
    parameters = (BufferParameter("b", DType.I32),)
    kernels = [
        Kernel(f"k{i}", parameters, tuple(Role(f"r{j}", steps) for j, steps in enumerate(body)))
        for i, body in enumerate(bodies)
    ]
    nodes = [KernelNode(f"n{i}", kernel.name, (("b", BufferArgument("b")),)) for i, kernel in enumerate(kernels)]
    pairs = combinations([node.name for node in nodes], 2)
    edges = [Dependency(u, v, kind) for (u, v), kind in zip(pairs, kinds, strict=True) if kind is not None]
    return Graph("three", [_MEMORY], [_BUFFER], kernels, nodes, edges)


def _fenced_bodies() -> list[Body]:
    """Bodies with a barrier and a fenced trigger in every order, waiting or not; in one role, and in two."""
    found: dict[Body, None] = {}
    for access, waits in product(("read", "write"), (False, True)):
        steps: tuple[Step, ...] = (*_PHASES[access], Barrier(), Trigger(fenced=True))
        for order in permutations((*steps, Wait()) if waits else steps):
            found[order,] = None
        trigger: tuple[Step, ...] = (Wait(),) if waits else ()
        for fenced, other in product((False, True), repeat=2):
            pair = (*trigger, Barrier(), Trigger(fenced)), (*_PHASES[access], Barrier(), Trigger(other))
            found[pair] = None
            found[pair[0][:-1], pair[1]] = None
    return list(found)


FENCED_BODIES = _fenced_bodies()


def all_graphs() -> Iterator[Graph]:
    """Every one of them."""
    for bodies in product(range(len(BODIES)), repeat=3):
        for kinds in EDGES:
            yield graph_of(bodies, kinds)
