"""The meaning of small graphs, literally: sets of single bytes for every value of every scalar, and all interleavings.

It shares no code with ``forerun.ir.semantics``: what a node touches, what is certain to come after a wait, and which
events are in order are all worked out anew, in the plainest way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product

from forerun.ir.buffer import Buffer, Paged
from forerun.ir.graph import Graph
from forerun.ir.kernel import Barrier, Kernel, Phase, Role, Wait
from forerun.ir.nodes import (
    BufferArgument,
    ChildGraphNode,
    ConditionalNode,
    ConstantArgument,
    KernelNode,
    MemcpyNode,
    MemsetNode,
    Node,
    ScalarLoad,
)
from forerun.ir.region import WHOLE, Region
from forerun.ir.types import DependencyKind

__all__ = ["Finding", "Touch", "conflicting", "early_phases", "judge", "touches"]

_ANY = "any"


@dataclass(frozen=True)
class Touch:
    """Bytes that a node reads or writes.

    ``bytes`` has an entry for each value of the scalar ``key``; touches with one key see one value, touches with
    different keys any two.
    """

    node: str
    allocation: str
    write: bool
    early: bool
    certain: bool
    key: str
    bytes: dict[int, frozenset[int]]

    def meets(self, other: Touch) -> bool:
        if self.allocation != other.allocation or not (self.write or other.write):
            return False
        if self.key == other.key:
            return any(self.bytes[v] & other.bytes[v] for v in self.bytes.keys() & other.bytes.keys())
        return bool(frozenset().union(*self.bytes.values()) & frozenset().union(*other.bytes.values()))


@dataclass(frozen=True)
class Finding:
    """What is wrong with a graph, bodies included."""

    races: frozenset[tuple[str, str]]
    certain: frozenset[tuple[str, str]]
    undrained: frozenset[str]

    @property
    def proved(self) -> bool:
        return not self.races and not self.undrained


def judge(graph: Graph) -> Finding:
    """All races (pairs of nodes, in launch order; those that rest on known facts once more), and what is undrained."""
    reached = _reached(graph)
    races, certain = set(), set()
    place = {name: i for i, name in enumerate(graph.nodes)}
    for a, b in combinations(touches(graph), 2):
        if a.node == b.node or not a.meets(b):
            continue
        first, second = sorted((a, b), key=lambda touch: place[touch.node])
        if ("S" if second.early else "W", second.node) not in reached[first.node]:
            races.add((first.node, second.node))
            if a.certain and b.certain:
                certain.add((first.node, second.node))
    sinks = {("C", name) for name in graph.nodes if not graph.outgoing(name)}
    left = {name for name in graph.nodes if not reached[name] & sinks}
    for node in graph:
        for body in _bodies(node):
            inner = judge(_inside(graph, body))
            races |= inner.races
            certain |= inner.certain
            left |= inner.undrained
    return Finding(frozenset(races), frozenset(certain), frozenset(left))


def conflicting(graph: Graph) -> dict[tuple[str, str], bool]:
    """The pairs of nodes, in launch order, that touch common bytes; and whether the later one only does so late."""
    place = {name: i for i, name in enumerate(graph.nodes)}
    found: dict[tuple[str, str], bool] = {}
    for pair in combinations(touches(graph), 2):
        a, b = sorted(pair, key=lambda touch: place[touch.node])
        if a.node != b.node and a.meets(b):
            found[a.node, b.node] = found.get((a.node, b.node), True) and not b.early
    return found


def _bodies(node: Node) -> tuple[Graph, ...]:
    if isinstance(node, ChildGraphNode):
        return (node.body,)
    return node.bodies if isinstance(node, ConditionalNode) else ()


def _inside(graph: Graph, body: Graph) -> Graph:
    tables = graph.allocations.values(), graph.buffers.values(), graph.kernels.values()
    return Graph(body.name, *tables, body.nodes.values(), body.dependencies)


# Order


def _reached(graph: Graph) -> dict[str, set[tuple[str, str]]]:
    """For each node, all events that its completion comes before: H1 to H4, written down and walked."""
    after: dict[tuple[str, str], list[tuple[str, str]]] = {(e, name): [] for name in graph.nodes for e in "SWC"}
    for node in graph:
        after["S", node.name] += [("W", node.name), ("C", node.name)]
        roles = _kernel(graph, node).roles or () if isinstance(node, KernelNode) else ()
        if any(isinstance(step, Wait) for role in roles for step in role.steps):
            after["W", node.name].append(("C", node.name))
    for d in graph.dependencies:
        if d.kind is not DependencyKind.LAUNCH_ORDER:
            after["C", d.source].append(("S" if d.kind is DependencyKind.FULL else "W", d.target))
    found = {}
    for name in graph.nodes:
        seen = {("C", name)}
        stack = [("C", name)]
        while stack:
            for event in after[stack.pop()]:
                if event not in seen:
                    seen.add(event)
                    stack.append(event)
        found[name] = seen
    return found


def early_phases(roles: tuple[Role, ...]) -> set[str]:
    """The phases that some interleaving of the roles executes before any wait returns."""
    start = (0,) * len(roles)
    seen, stack, found = {start}, [start], set()
    while stack:
        at = stack.pop()
        steps = [role.steps[i] if i < len(role.steps) else None for role, i in zip(roles, at, strict=True)]
        following = []
        if steps and all(isinstance(step, Barrier) for step in steps):
            following.append(tuple(i + 1 for i in at))
        for r, step in enumerate(steps):
            if step is not None and not isinstance(step, Barrier | Wait):
                following.append((*at[:r], at[r] + 1, *at[r + 1 :]))
                found |= {step.name} if isinstance(step, Phase) else set()
        for state in following:
            if state not in seen:
                seen.add(state)
                stack.append(state)
    return found


# Bytes


def touches(graph: Graph) -> list[Touch]:
    """What every node touches."""
    unknown = [touch for node in graph for touch in _of_node(graph, node, None)]
    written: dict[tuple[str, int], set[str]] = {}
    for t in unknown:
        for byte in frozenset().union(*t.bytes.values()) if t.write else ():
            written.setdefault((t.allocation, byte), set()).add(t.node)
    return [touch for node in graph for touch in _of_node(graph, node, written)]


_Written = dict[tuple[str, int], set[str]] | None
"""The nodes that may write a byte; ``None`` before they are known."""


def _version(graph: Graph, node: str, phase: str, allocation: str, element: frozenset[int], written: _Written) -> str:
    """What is appended to the name of a loaded scalar: how often it may have been written before, if that is known."""
    writers = (
        set().union(*(written.get((allocation, byte), set()) for byte in element)) if written is not None else {node}
    )
    if node in writers:
        return f"@{node}.{phase}"
    names = list(graph.nodes)
    return f"@{sum(name in writers for name in names[: names.index(node)])}"


def _kernel(graph: Graph, node: KernelNode) -> Kernel:
    return graph.kernels[node.kernel]


def _of_node(graph: Graph, node: Node, written: _Written) -> Iterator[Touch]:
    if isinstance(node, KernelNode):
        kernel = _kernel(graph, node)
        if kernel.roles is None:
            yield from _of_black_box(graph, node)
        else:
            yield from _of_roles(graph, node, kernel.roles, written)
    elif isinstance(node, MemsetNode | MemcpyNode):
        if isinstance(node, MemcpyNode):
            yield from _plain(graph, node.name, node.source.buffer, node.source.region, False)
        yield from _plain(graph, node.name, node.destination.buffer, node.destination.region, True)
    elif isinstance(node, ConditionalNode):
        yield from _plain(graph, node.name, node.condition, WHOLE, False)
    for body in _bodies(node):
        for inner in touches(_inside(graph, body)):
            everything = frozenset().union(*inner.bytes.values())
            yield Touch(node.name, inner.allocation, inner.write, True, inner.certain, _ANY, {0: everything})


def _of_black_box(graph: Graph, node: KernelNode) -> Iterator[Touch]:
    for _, argument in node.arguments:
        if isinstance(argument, BufferArgument | ScalarLoad):
            view = graph.buffers[argument.buffer]
            for name in (view.name, *((view.index.table,) if isinstance(view.index, Paged) else ())):
                memory = graph.allocations[graph.buffers[name].allocation]
                every = {0: frozenset(range(memory.size))}
                yield Touch(node.name, memory.name, False, True, False, _ANY, every)
                if isinstance(argument, BufferArgument):
                    yield Touch(node.name, memory.name, True, True, False, _ANY, every)


def _of_roles(graph: Graph, node: KernelNode, roles: tuple[Role, ...], written: _Written) -> Iterator[Touch]:
    early = early_phases(roles)
    for role in roles:
        for phase in role.phases:
            uses = [*phase.scalars, *(name for a in (*phase.reads, *phase.writes) for name in a.region.symbols)]
            values, key = {0: {}}, _ANY
            for scalar in dict.fromkeys(uses):
                argument = node.argument(scalar)
                if isinstance(argument, ConstantArgument):
                    values = {0: {scalar: int(argument.value)}}
                elif isinstance(argument, ScalarLoad):
                    source = graph.buffers[argument.buffer]
                    at = source.offset + 4 * argument.index
                    element = frozenset(range(at, at + 4))
                    yield Touch(node.name, source.allocation, False, phase.name in early, True, _ANY, {0: element})
                    low, high = source.bounds or (0, 0)
                    values = {v: {scalar: v + argument.offset} for v in range(low, high + 1)}
                    version = _version(graph, node.name, phase.name, source.allocation, element, written)
                    key = f"{source.allocation}+{at}{version}"
            for access, write in [(a, False) for a in phase.reads] + [(a, True) for a in phase.writes]:
                argument = node.argument(access.parameter)
                assert isinstance(argument, BufferArgument)
                for name, found, certain, writes in _bytes(graph, argument.buffer, access.region, write, values):
                    own = key if len(found) > 1 else _ANY
                    yield Touch(node.name, name, writes, phase.name in early, certain, own, found)


def _plain(graph: Graph, node: str, buffer: str, part: Region, write: bool) -> Iterator[Touch]:
    for name, found, certain, writes in _bytes(graph, buffer, part, write, {0: {}}):
        yield Touch(node, name, writes, True, certain, _ANY, found)


def _bytes(
    graph: Graph, buffer: str, part: Region, write: bool, values: dict[int, dict[str, int]]
) -> Iterator[tuple[str, dict[int, frozenset[int]], bool, bool]]:
    """(allocation, bytes by value of the scalar, certain, write) of one access, and of its page table."""
    view = graph.buffers[buffer]
    if isinstance(view.index, Paged):
        yield view.allocation, {0: frozenset(range(view.offset, view.stop))}, False, write
        yield from _bytes(graph, view.index.table, WHOLE, False, {0: {}})
        return
    if not part.symbols:
        values = {0: next(iter(values.values()))}
    yield view.allocation, {v: _elements(view, part, found) for v, found in values.items()}, True, write


def _elements(view: Buffer, part: Region, values: dict[str, int]) -> frozenset[int]:
    ranges = [range(extent) for extent in view.shape]
    for axis, bounds in enumerate(part.slices):
        if bounds is not None:
            ranges[axis] = range(bounds.start.evaluate(values), bounds.stop.evaluate(values))
    found = set()
    for index in product(*ranges):
        flat = 0
        for i, extent in zip(index, view.shape, strict=True):
            flat = flat * extent + i
        start = view.offset + flat * view.dtype.itemsize
        found |= set(range(start, start + view.dtype.itemsize))
    return frozenset(found)
