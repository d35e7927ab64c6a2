"""Random programs for tests of meaning: small graphs whose kernels share bytes in every way, and slow oracles.

The oracles follow docs/pdl.md's definitions literally (an explicit graph of events, all pairs of accesses), so that the
fast implementations can be compared with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise

import networkx as nx
from hypothesis import strategies as st

from forerun.ir.affine import affine
from forerun.ir.buffer import Allocation, Buffer
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import (
    Access,
    Barrier,
    BufferParameter,
    Kernel,
    Phase,
    Role,
    ScalarParameter,
    Step,
    Trigger,
    Wait,
)
from forerun.ir.nodes import (
    BufferArgument,
    ConstantArgument,
    EventRecordNode,
    EventWaitNode,
    KernelNode,
    MemsetNode,
    Node,
    ScalarLoad,
)
from forerun.ir.region import WHOLE, BufferView, Region, region
from forerun.ir.semantics import NodeAccess, accesses
from forerun.ir.types import BufferRole, DependencyKind, DType

ELEMENTS = 6
POSITION = Buffer("pos", DType.I32, (1,), BufferRole.INPUT, "pos", bounds=(0, 2))


@dataclass(frozen=True)
class Style:
    """What a random program may contain."""

    waits: bool = True
    chain: bool = False
    kinds: tuple[DependencyKind, ...] = tuple(DependencyKind)
    most_nodes: int = 6
    opaque: bool = True
    events: bool = False
    fences: bool = False


@st.composite
def programs(draw: st.DrawFn, style: Style = Style()) -> Graph:
    """A valid graph of up to ``style.most_nodes`` nodes on at most two allocations."""
    buffers = draw(_views())
    count = draw(st.integers(1, style.most_nodes))
    kernels: list[Kernel] = []
    nodes: list[Node] = []
    for i in range(count):
        name = f"n{i}"
        if draw(st.integers(0, 9)) == 0:
            nodes.append(MemsetNode(name, BufferView(draw(st.sampled_from(buffers)).name)))
            continue
        if style.events and draw(st.integers(0, 9)) == 0:
            nodes.append(draw(st.sampled_from([EventRecordNode, EventWaitNode]))(name, "e"))
            continue
        kernel = draw(_kernels(f"k{i}", style))
        bound: list[tuple[str, BufferArgument | ConstantArgument | ScalarLoad]] = []
        for parameter in kernel.parameters:
            if isinstance(parameter, BufferParameter):
                bound.append((parameter.name, BufferArgument(draw(st.sampled_from(buffers)).name)))
            else:
                load = st.builds(ScalarLoad, st.just("pos"), st.just(0), st.integers(0, 1))
                constant = st.builds(ConstantArgument, st.integers(0, 2))
                bound.append((parameter.name, draw(st.one_of(load, constant))))
        kernels.append(kernel)
        nodes.append(KernelNode(name, kernel.name, tuple(bound)))
    allocations = [Allocation("a", 4 * ELEMENTS), Allocation("b", 4 * ELEMENTS), Allocation("pos", 4)]
    return Graph("random", allocations, [*buffers, POSITION], kernels, nodes, draw(_dependencies(nodes, style)))


@st.composite
def _views(draw: st.DrawFn) -> list[Buffer]:
    views = []
    for i in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, ELEMENTS - 4))
        size = draw(st.integers(4, ELEMENTS - start))
        allocation = draw(st.sampled_from("ab"))
        views.append(Buffer(f"v{i}", DType.I32, (size,), BufferRole.STATE, allocation, 4 * start))
    return views


@st.composite
def _kernels(draw: st.DrawFn, name: str, style: Style) -> Kernel:
    parameters = tuple(BufferParameter(f"p{i}", DType.I32, (None,)) for i in range(draw(st.integers(1, 3))))
    scalar = ScalarParameter("s", DType.I32)
    if style.opaque and draw(st.integers(0, 11)) == 0:
        return Kernel(name, (*parameters, scalar))
    roles: list[Role] = []
    barrier = draw(st.booleans())
    for i in range(draw(st.sampled_from([1, 1, 1, 2]))):
        steps: list[Step] = []
        given: list[str] = []
        for j in range(draw(st.integers(1, 3))):
            steps.append(draw(_phases(f"r{i}p{j}", [p.name for p in parameters], given)))
        if style.waits and draw(st.booleans()):
            steps.insert(draw(st.integers(0, len(steps))), Wait())
        if style.waits and draw(st.booleans()):
            steps.insert(draw(st.integers(0, len(steps))), Trigger(style.fences and draw(st.booleans())))
        if barrier:
            steps.insert(draw(st.integers(0, len(steps))), Barrier())
        roles.append(Role(f"r{i}", tuple(steps)))
    return Kernel(name, (*parameters, scalar), tuple(roles))


@st.composite
def _phases(draw: st.DrawFn, name: str, parameters: list[str], given: list[str]) -> Phase:
    reads = tuple(draw(st.lists(_accesses(parameters), max_size=2)))
    writes = tuple(draw(st.lists(_accesses(parameters), max_size=1)))
    uses = tuple(draw(st.lists(st.sampled_from(given), unique=True, max_size=1))) if given else ()
    defines: tuple[str, ...] = ()
    if not writes:
        defines = (f"{name}v",)
        given.append(defines[0])
    return Phase(name, reads, writes, uses, defines)


@st.composite
def _accesses(draw: st.DrawFn, parameters: list[str]) -> Access:
    start = draw(st.integers(0, 3))
    regions: st.SearchStrategy[Region] = st.one_of(
        st.just(WHOLE),
        st.just(region((start, 4))),
        st.just(region((start, start + 1))),
        st.just(region((0, "s"))),
        st.just(region(("s", affine("s") + 1))),
    )
    return Access(draw(st.sampled_from(parameters)), draw(regions))


@st.composite
def _dependencies(draw: st.DrawFn, nodes: list[Node], style: Style) -> list[Dependency]:
    if style.chain:
        return [Dependency(u.name, v.name) for u, v in pairwise(nodes)]
    found = []
    for u, v in combinations(nodes, 2):
        if draw(st.integers(0, 2)) == 0:
            both = isinstance(u, KernelNode) and isinstance(v, KernelNode)
            kind = draw(st.sampled_from(style.kinds)) if both else DependencyKind.FULL
            found.append(Dependency(u.name, v.name, kind))
    return found


# Oracles


def event_graph(graph: Graph) -> nx.DiGraph:
    """Events (``"S"``, ``"W"``, ``"C"``; node) under H1 to H4, written down literally."""
    events: nx.DiGraph = nx.DiGraph()
    for node in graph:
        v = node.name
        events.add_edge(("S", v), ("W", v))
        events.add_edge(("S", v), ("C", v))
        kernel = graph.kernels.get(node.kernel) if isinstance(node, KernelNode) else None
        if kernel is not None and any(isinstance(s, Wait) for role in kernel.roles or () for s in role.steps):
            events.add_edge(("W", v), ("C", v))
    for dependency in graph.dependencies:
        if dependency.kind is DependencyKind.FULL:
            events.add_edge(("C", dependency.source), ("S", dependency.target))
        elif dependency.kind is DependencyKind.PROGRAMMATIC:
            events.add_edge(("C", dependency.source), ("W", dependency.target))
    return events


_latest: list[tuple[Graph, dict[str, set[tuple[str, str]]]]] = []
"""The graph that was asked about last, and what was said: two oracles in a row ask about one graph."""


def completions(graph: Graph) -> dict[str, set[tuple[str, str]]]:
    """For each node, all events that its C reaches."""
    if not _latest or _latest[0][0] is not graph:
        events = event_graph(graph)
        reached = {name: nx.descendants(events, ("C", name)) | {("C", name)} for name in graph.nodes}
        _latest[:] = [(graph, reached)]
    return _latest[0][1]


def before(reached: dict[str, set[tuple[str, str]]], a: NodeAccess, b: NodeAccess) -> bool:
    """Whether out(a) = C reaches in(b)."""
    return ("S" if b.early else "W", b.node) in reached[a.node]


def all_conflicts(graph: Graph) -> Iterator[tuple[NodeAccess, NodeAccess]]:
    """Every pair of accesses of different nodes to common bytes, at least one a write; in launch order."""
    flat = [access for found in accesses(graph).values() for access in found]
    for a, b in combinations(flat, 2):
        if a.node != b.node and (a.write or b.write) and a.allocation == b.allocation and a.bytes.overlaps(b.bytes):
            yield a, b


def races(graph: Graph) -> list[tuple[NodeAccess, NodeAccess]]:
    """The conflicting pairs that are ordered neither way."""
    reached = completions(graph)
    return [(a, b) for a, b in all_conflicts(graph) if not before(reached, a, b) and not before(reached, b, a)]


def undrained(graph: Graph) -> list[str]:
    """The nodes whose completion reaches no sink's."""
    reached = completions(graph)
    sinks = {("C", name) for name in graph.nodes if not graph.outgoing(name)}
    return [name for name in graph.nodes if not reached[name] & sinks]
