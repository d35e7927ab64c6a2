"""When the nodes of one replay did what, and what follows from it: gaps, overlaps, shares of the whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import accumulate
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.ir.graph import Graph
from forerun.ir.nodes import HostCallbackNode, KernelNode, MemcpyNode, Node
from forerun.ir.walk import all_nodes, bodies_in, inner_bodies, kernel_nodes
from forerun.support.diagnostics import InvalidInput

__all__ = ["NodeTimes", "Range", "Timeline", "WorkSpan", "lanes", "timeline_of"]

Ints = NDArray[np.int64]

FORMAT = "forerun timeline 1"

_COLUMNS = ("start", "wait", "trigger", "end", "sm")


@dataclass(frozen=True, slots=True)
class Range:
    """The first and the last CTA's time, in nanoseconds."""

    first: int
    last: int


@dataclass(frozen=True, eq=False)
class NodeTimes:
    """When the CTAs of a kernel node did what.

    Times are nanoseconds since the first node of the replay began. Arrays have an entry for each CTA, in the order of
    the grid. A time is -1 where a CTA took no such step.

    Attributes:
        name: The node's path: ``outer/inner`` for a node in a body.
        kernel: What it launches.
        after: The nodes that it depends on, with the kind of the dependency; those without times are looked through.
        start: When the CTA's first thread began.
        wait: When its wait returned.
        trigger: When it triggered.
        end: When its last thread was done.
        sm: Where it ran.
    """

    name: str
    kernel: str
    after: tuple[tuple[str, str], ...]
    start: Ints
    wait: Ints
    trigger: Ints
    end: Ints
    sm: Ints

    @property
    def ctas(self) -> int:
        """How many CTAs it has."""
        return len(self.start)

    @property
    def sms(self) -> int:
        """On how many SMs they ran."""
        return len(np.unique(self.sm))

    @property
    def most_on_one_sm(self) -> int:
        """The most CTAs that ran on one SM, at once or one after the other."""
        return int(np.unique(self.sm, return_counts=True)[1].max())

    def range(self, step: str) -> Range | None:
        """First and last of ``start``, ``wait``, ``trigger`` or ``end``; ``None`` if no CTA took the step."""
        times: Ints = getattr(self, step)
        taken = times[times >= 0]
        return Range(int(taken.min()), int(taken.max())) if len(taken) else None

    @cached_property
    def begins(self) -> int:
        """When its first CTA started."""
        return int(self.start.min())

    @cached_property
    def works(self) -> int:
        """When the work began that depends on other nodes: when the first wait returned, or else the first start."""
        waited = self.range("wait")
        return self.begins if waited is None else waited.first

    @cached_property
    def ends(self) -> int:
        """When its last CTA was done."""
        return int(self.end.max())

    def to_json(self) -> dict[str, Any]:
        """The fields; ``null`` for a step that no CTA took."""
        columns = {key: getattr(self, key).tolist() if self.range(key) else None for key in _COLUMNS}
        after = [{"source": source, "kind": kind} for source, kind in self.after]
        return {"name": self.name, "kernel": self.kernel, "after": after, **columns}


@dataclass(frozen=True, slots=True)
class WorkSpan:
    """When a node did its work that has no CTAs.

    Attributes:
        name: The node's path.
        kind: ``host`` for what runs there, ``link`` for a copy between host and device, ``copy`` for another one.
        work: The kernel or function, or the buffers that it copies from and to.
        begins: When it began, in nanoseconds since the first node of the replay did.
        ends: When it was done.
    """

    name: str
    kind: str
    work: str
    begins: int
    ends: int

    @property
    def works(self) -> int:
        """When the work began: it does nothing early."""
        return self.begins


@dataclass(frozen=True, eq=False)
class Timeline:
    """One replay.

    Attributes:
        graph: The graph's name.
        timed: The nodes that ran and noted their times, in launch order.
        untimed: How many nodes there are besides: fills, foreign kernels, and what did not run.
        clock_error: By how many nanoseconds what ran on the host may be too early or too late beside the rest: the two
            have clocks of their own.
    """

    graph: str
    timed: tuple[NodeTimes | WorkSpan, ...]
    untimed: int = 0
    clock_error: int = 0

    @cached_property
    def nodes(self) -> tuple[NodeTimes, ...]:
        """The kernels of the device."""
        return tuple(node for node in self.timed if isinstance(node, NodeTimes))

    @cached_property
    def spans(self) -> tuple[WorkSpan, ...]:
        """What ran on the host, and copies."""
        return tuple(node for node in self.timed if isinstance(node, WorkSpan))

    @cached_property
    def nanoseconds(self) -> int:
        """From the first start to the last end."""
        return max(node.ends for node in self.timed)

    @cached_property
    def _done_before(self) -> dict[str, int]:
        """When all nodes before each one in launch order were done."""
        ends = accumulate((node.ends for node in self.timed), max)
        return {node.name: end for node, end in zip(self.timed[1:], ends, strict=False)}

    def gap(self, node: NodeTimes | WorkSpan) -> int:
        """Nanoseconds for which nothing worked: from the end of all nodes before it to the work of this one."""
        return max(0, node.works - self._done_before.get(node.name, node.works))

    def overlap(self, node: NodeTimes | WorkSpan) -> int:
        """Nanoseconds for which a node was there already while nodes before it went on."""
        return max(0, self._done_before.get(node.name, node.begins) - node.begins)

    @cached_property
    def shares(self) -> dict[str, int]:
        """Nanoseconds of the replay that each node accounts for: from the end before its own to its own.

        The sum is :attr:`nanoseconds`.
        """
        found, last = {}, 0
        for node in sorted(self.timed, key=lambda node: node.ends):
            found[node.name] = node.ends - last
            last = node.ends
        return found

    def to_json(self) -> dict[str, Any]:
        """As docs/seeing-a-step.md describes it."""
        lane_of = lanes([(node.begins, node.ends) for node in self.nodes])
        return {
            "format": FORMAT,
            "graph": self.graph,
            "nanoseconds": self.nanoseconds,
            "untimed": self.untimed,
            "clock_error": self.clock_error,
            "spans": [{**asdict(span), "share": self.shares[span.name]} for span in self.spans],
            "nodes": [
                {
                    **node.to_json(),
                    "lane": lane,
                    "share": self.shares[node.name],
                    "gap": self.gap(node),
                    "overlap": self.overlap(node),
                }
                for node, lane in zip(self.nodes, lane_of, strict=True)
            ],
        }


def timeline_of(
    graph: Graph,
    records: Mapping[str, NDArray[Any]],
    spans: Mapping[str, tuple[int, int]] = MappingProxyType({}),
    clock_error: int = 0,
) -> Timeline:
    """Make sense of what nodes noted.

    Args:
        graph: The graph that ran.
        records: By the path of each node, a row for each CTA: start, wait, trigger, end (nanoseconds of one clock; 0
            if there was none), and SM.
        spans: By the path of each copy, and of each node that ran on the host, when it began and ended, by that clock.
        clock_error: By how much the times of the host may be wrong beside the others, in nanoseconds.

    Raises:
        InvalidInput: If nothing ran.
    """
    ran = {path: np.asarray(rows).astype(np.int64) for path, rows in records.items() if (rows[:, 0] != 0).all()}
    if not ran and not spans:
        raise InvalidInput("no kernel has noted its times", hint="replay the program first")
    origin = min([*(int(rows[:, 0].min()) for rows in ran.values()), *(begin for begin, _ in spans.values())])
    kernels = {path: node.kernel for path, node in kernel_nodes(graph)}
    after = dict(_after(graph, "", ran))
    timed: list[NodeTimes | WorkSpan] = []
    count = 0
    for path, node in all_nodes(graph):
        count += not bodies_in(node)  # those that do something by themselves
        if path in ran:
            timed.append(_times(path, kernels[path], after[path], ran[path], origin))
        elif path in spans:
            begin, end = spans[path]
            timed.append(WorkSpan(path, *_work_of(graph, node), begin - origin, max(begin, end) - origin))
    return Timeline(graph.name, tuple(timed), count - len(timed), clock_error)


def _work_of(graph: Graph, node: Node) -> tuple[str, str]:
    """The kind of a node's span, and what it does."""
    match node:
        case MemcpyNode():
            ends = node.source.buffer, node.destination.buffer
            places = {graph.allocations[graph.buffers[name].allocation].place.kind for name in ends}
            return "link" if len(places) == 2 else "copy", f"%{ends[0]} to %{ends[1]}"
        case HostCallbackNode():
            return "host", node.function
        case KernelNode():
            return "host", node.kernel
        case _:
            return "copy", type(node).__name__


def _times(path: str, kernel: str, after: tuple[tuple[str, str], ...], rows: Ints, origin: int) -> NodeTimes:
    times = np.where(rows[:, :4] == 0, -1, rows[:, :4] - origin)
    start, wait, trigger, end = (np.ascontiguousarray(column) for column in times.T)
    return NodeTimes(path, kernel, after, start, wait, trigger, end, rows[:, 4].copy())


def _after(graph: Graph, prefix: str, timed: Mapping[str, Any]) -> Iterator[tuple[str, tuple[tuple[str, str], ...]]]:
    """For each kernel node the nodes with times that it comes after, in its own graph or body."""
    reached: dict[str, dict[str, str]] = {}
    incoming: dict[str, list[Any]] = {name: [] for name in graph.nodes}
    for dependency in graph.dependencies:
        incoming[dependency.target].append(dependency)
    for name, node in graph.nodes.items():  # in launch order, so that sources come first
        found: dict[str, str] = {}
        for dependency in incoming[name]:
            path = prefix + dependency.source
            found |= {path: str(dependency.kind)} if path in timed else reached.get(dependency.source, {})
        reached[name] = found
        if isinstance(node, KernelNode):
            yield prefix + name, tuple(found.items())
    for inner, body in inner_bodies(graph, prefix):
        yield from _after(body, inner, timed)


def lanes(spans: Sequence[tuple[int, int]]) -> list[int]:
    """A lane for each span, so that spans of one lane never overlap: the first that is free, in order of the starts.

    Example:
        >>> lanes([(0, 10), (8, 20), (10, 12), (21, 22)])
        [0, 1, 0, 0]
    """
    free: list[int] = []
    found = [0] * len(spans)
    for number in sorted(range(len(spans)), key=lambda i: spans[i]):
        start, stop = spans[number]
        lane = next((i for i, end in enumerate(free) if end <= start), len(free))
        free[lane : lane + 1] = [stop]
        found[number] = lane
    return found
