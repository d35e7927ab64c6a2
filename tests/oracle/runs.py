"""What can be seen of a graph under one schedule, and the schedules that are tried."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from random import Random
from typing import Any

from forerun.ir.graph import Dependency, Graph
from forerun.ir.nodes import AllocNode, ChildGraphNode, ConditionalNode, EventRecordNode, EventWaitNode, Node
from forerun.ir.types import BufferRole
from tests.oracle.launches import Store, Values
from tests.oracle.machine import Machine, Priority
from tests.oracle.memory import Memory, Where, mixed, spelled

__all__ = ["Seen", "adversaries", "bodies_of", "has_events", "in_order", "run", "serial", "standing_for"]

REPLAYS = 2
_UNSEEN = 77


@dataclass(frozen=True)
class Seen:
    """What the host and others outside can see.

    Attributes:
        memory: Outputs and state at the end of each replay.
        log: What host calls and event nodes have seen, in their order.
        misuses: How often memory was written that was not in use.
        choices: How often the schedule had a choice: without any, all schedules are one.
    """

    memory: tuple[tuple[int, ...], ...]
    log: tuple[tuple[str, tuple[int, ...]], ...]
    misuses: int
    choices: int = field(default=0, compare=False)


def run(
    graph: Graph,
    priority: Priority,
    *,
    like: Graph | None = None,
    assumptions: frozenset[str] = frozenset(),
    fused: Mapping[str, Callable[[Values], Store]] | None = None,
    known: dict[Any, Any] | None = None,
) -> Seen:
    """Run some replays of a graph.

    Args:
        graph: A verified graph.
        priority: The schedule.
        like: The graph whose outputs and state are looked at; by default the same one.
        assumptions: ``H6``, ``H8``.
        fused: What nodes do that stand for others.
        known: Where regions lie, for speed; one for each graph.
    """
    memory = Memory(graph, known={} if known is None else known)
    machine = Machine(graph, memory, priority, assumptions, fused or {})
    allocated = [node.allocation for node in graph if isinstance(node, AllocNode)]
    found = []
    for replay in range(REPLAYS):
        memory.begin(replay, allocated)
        machine.replay()
        found.append(_looked_at(memory, like or graph))
    machine.finish()
    return Seen(tuple(found), tuple(machine.log), memory.misuses, machine.choices)


def _looked_at(memory: Memory, graph: Graph) -> tuple[int, ...]:
    values: list[int] = []
    for name, buffer in graph.buffers.items():
        if buffer.role in (BufferRole.OUTPUT, BufferRole.STATE):
            present = memory.graph.buffers.get(name)
            if present is None:
                values += [_UNSEEN] * buffer.size
            else:
                values += memory.bytes[present.allocation][present.offset : present.stop]
    return tuple(values)


def serial(graph: Graph) -> Graph:
    """The graph with its nodes one by one, in launch order."""
    tables = graph.allocations.values(), graph.buffers.values(), graph.kernels.values()
    nodes = [_serial_inside(node) for node in graph]
    return Graph(graph.name, *tables, nodes, [Dependency(u, v) for u, v in pairwise(graph.nodes)])


def _serial_inside(node: Node) -> Node:
    if isinstance(node, ConditionalNode):
        return replace(node, bodies=tuple(serial(body) for body in node.bodies))
    return replace(node, body=serial(node.body)) if isinstance(node, ChildGraphNode) else node


def bodies_of(node: Node) -> tuple[Graph, ...]:
    """The graphs in a node."""
    if isinstance(node, ConditionalNode):
        return node.bodies
    return (node.body,) if isinstance(node, ChildGraphNode) else ()


def in_order(graph: Graph) -> Priority:
    """Earlier nodes first."""
    return lambda node, kind, number: -number


def has_events(graph: Graph) -> bool:
    """Whether somebody outside watches or waits for a graph while it runs."""
    return any(
        isinstance(node, EventRecordNode | EventWaitNode) or any(map(has_events, bodies_of(node))) for node in graph
    )


def adversaries(graph: Graph, chooser: Random, some: int) -> Iterator[Priority]:
    """Schedules: late nodes first, one node or its copy engine held back for as long as can be, and random ones."""
    place = {name: i for i, name in enumerate(_names(graph))}
    yield lambda node, kind, number: place[node]
    yield lambda node, kind, number: place[node] + (0 if kind == "role" else 1000)
    for slow in place:
        yield lambda node, kind, number, slow=slow: -1 if node == slow else place[node]
        yield lambda node, kind, number, slow=slow: -place[node] - (1000 if node == slow and kind != "role" else 0)
    for _ in range(some):
        own = Random(chooser.random())
        fixed: dict[object, float] = {}

        def priority(node: str, kind: str, number: int, own: Random = own, fixed: dict[object, float] = fixed) -> float:
            key = node, kind, number
            if key not in fixed or own.random() < 0.15:
                fixed[key] = own.random()
            return fixed[key]

        yield priority


def _names(graph: Graph) -> Iterator[str]:
    for node in graph:
        yield node.name
        for body in bodies_of(node):
            yield from _names(body)


@dataclass
class _Noted(Memory):
    """Memory that knows what was written."""

    written: Values = field(default_factory=dict)

    def write(self, where: Where, values: Iterable[int]) -> None:
        """Store values."""
        found = tuple(values)
        super().write(where, found)
        self.written.update(zip(((where.allocation, i) for i in where.at), found, strict=True))


def standing_for(before: Graph, parts: tuple[str, ...]) -> Callable[[Values], Store]:
    """What some nodes store, one after the other, if they read what is given."""
    tables = before.allocations.values(), before.buffers.values(), before.kernels.values()
    chain = Graph("parts", *tables, [before.nodes[p] for p in parts], [Dependency(u, v) for u, v in pairwise(parts)])
    known: dict[Any, Any] = {}

    def store(seen: Values) -> Store:
        memory = _Noted(chain, known=known)
        for name, allocation in before.allocations.items():
            key = spelled(name)
            memory.bytes[name] = [
                seen[name, i] if (name, i) in seen else mixed(key, i, _UNSEEN) for i in range(allocation.size)
            ]
        Machine(chain, memory, in_order(chain)).replay()
        return Store([(Where(name, (i,)), (value,)) for (name, i), value in memory.written.items()])

    return store
