"""A graph in parts: one CUDA graph for each split of the device, and calls for each split of the host."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

from networkx.utils import UnionFind

from forerun.ir.graph import Dependency, Graph
from forerun.ir.nodes import EmptyNode, Node, is_host_work
from forerun.ir.types import DependencyKind

__all__ = ["Segment", "joined", "one_after_the_other", "part_of", "segments_of"]


@dataclass(frozen=True, slots=True)
class Segment:
    """Some nodes, in launch order.

    Attributes:
        is_host: Whether they run on the host; copies between places are the device's work.
        sources: The numbers of the segments that come before it.
    """

    is_host: bool
    nodes: tuple[str, ...]
    sources: tuple[int, ...]


def segments_of(graph: Graph, *, apart: bool) -> list[Segment]:
    """The splits of a graph, in an order that its dependencies allow.

    Args:
        graph: A valid graph.
        apart: Whether nodes of one split that do not depend on each other are segments of their own, so that what
            waits for some of them need not wait for all.
    """
    parts = [(host, part) for host, names in _runs(graph) for part in (_apart(graph, names) if apart else [names])]
    number_of = {name: number for number, (_, names) in enumerate(parts) for name in names}
    found = []
    for number, (host, names) in enumerate(parts):
        sources = {number_of[d.source] for name in names for d in graph.incoming(name)} - {number}
        found.append(Segment(host, tuple(names), tuple(sorted(sources))))
    return found


def part_of(graph: Graph, names: Iterable[str]) -> Graph:
    """Some nodes of a graph, in its order, with the dependencies between them."""
    wanted = frozenset(names)
    chosen = [node for node in graph if node.name in wanted]
    inside = [one for one in graph.dependencies if one.source in wanted and one.target in wanted]
    return Graph(graph.name, nodes=chosen, dependencies=inside)


def joined(graph: Graph, segments: Sequence[Segment]) -> Graph:
    """The graph with one empty node, of the name of the first one, for each segment of the host."""
    stands_for = {name: s.nodes[0] if s.is_host else name for s in segments for name in s.nodes}
    nodes: dict[str, Node] = {}
    for segment in segments:
        chosen = segment.nodes[:1] if segment.is_host else segment.nodes
        nodes.update((name, EmptyNode(name) if segment.is_host else graph.nodes[name]) for name in chosen)
    found: dict[tuple[str, str], Dependency] = {}
    for dependency in graph.dependencies:
        ends = stands_for[dependency.source], stands_for[dependency.target]
        if ends[0] != ends[1]:
            found.setdefault(ends, Dependency(*ends, dependency.kind))
    return Graph(graph.name, nodes=nodes.values(), dependencies=found.values())


def one_after_the_other(part: Graph, segments: Sequence[Segment]) -> Graph:
    """A graph of :func:`joined`, or some of its nodes, whose segments of the device follow each other, as on a stream.

    Side by side all of them would be done late, and the host would have nothing to do until then.
    """
    found = {(d.source, d.target): d for d in part.dependencies}
    for before, after in _neighbours(segments):
        for source in _ends(before, part, part.outgoing, attrgetter("target")):
            for target in _ends(after, part, part.incoming, attrgetter("source")):
                found.setdefault((source, target), Dependency(source, target, DependencyKind.FULL))
    return Graph(part.name, nodes=part, dependencies=found.values())


def _neighbours(segments: Sequence[Segment]) -> Iterator[tuple[Segment, Segment]]:
    """Segments of the device that follow each other, where nothing else orders the two."""
    earlier: list[set[int]] = []
    last = -1
    for number, segment in enumerate(segments):
        known = set(segment.sources).union(*(earlier[source] for source in segment.sources))
        if not segment.is_host:
            if last >= 0 and last not in known:
                yield segments[last], segment
                known |= {last, *earlier[last]}
            last = number
        earlier.append(known)


def _ends(
    segment: Segment, part: Graph, edges: Callable[[str], Iterable[Dependency]], other: Callable[[Dependency], str]
) -> list[str]:
    """The nodes of a segment, of those of the part, without edges of a direction to others of it."""
    inside = {name for name in segment.nodes if name in part.nodes}
    return [name for name in segment.nodes if name in inside and inside.isdisjoint(map(other, edges(name)))]


def _runs(graph: Graph) -> list[tuple[bool, list[str]]]:
    """The nodes by turns of device and host, each as long as the dependencies allow, in launch order.

    Copies are the device's work, so those between kernels of the host go to the next turn of the device.
    """
    left = {name: len(graph.incoming(name)) for name in graph.nodes}
    position = {name: i for i, name in enumerate(graph.nodes)}
    ready: dict[bool, list[tuple[int, str]]] = {False: [], True: []}
    for name, node in graph.nodes.items():
        if not left[name]:
            ready[is_host_work(node)].append((position[name], name))
    found: list[tuple[bool, list[str]]] = []
    host = False
    while any(ready.values()):
        names: list[str] = []
        while ready[host]:
            names.append(heapq.heappop(ready[host])[1])
            for dependency in graph.outgoing(names[-1]):
                target = dependency.target
                left[target] -= 1
                if not left[target]:
                    heapq.heappush(ready[is_host_work(graph.nodes[target])], (position[target], target))
        if names:
            found.append((host, names))
        host = not host
    return found


def _apart(graph: Graph, names: Sequence[str]) -> list[list[str]]:
    """Nodes of one split, by what depends on each other, in the order of the first ones."""
    sets, inside = UnionFind(names), set(names)
    for name in names:
        for dependency in graph.incoming(name):
            if dependency.source in inside:
                sets.union(dependency.source, name)
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(sets[name], []).append(name)
    return list(groups.values())
