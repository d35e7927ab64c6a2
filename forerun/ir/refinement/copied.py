"""Copied buffers: whether nodes that work on copies of buffers do what they would do on the buffers themselves.

A rewrite may add a temporary that is a copy of a buffer, copies between the two, and let kernel nodes use the one in
the place of the other (``fuse-splits`` does it where nodes of two places use one buffer). *Undone* is the graph after
with the buffers themselves, and an empty node for each copy.

Why this suffices. Run the nodes of both one by one, in an order that the dependencies of the graph after allow. A byte
of a version, the buffer or one of its copies, is *stale* if it may differ from that byte of the buffer in the graph
undone. The walk below keeps, for each version, a set that has all stale bytes: at first those of the copies; a write to
one version makes the others stale, and the bytes of whatever shares memory with it; a copy hands on what is stale and
what is not. If no node but copies reads stale bytes, each node reads what it reads in the graph undone, and so writes
the same (C4); and if what is seen outside the replay is not stale at its end, nor at event nodes, others see the same.
Temporaries may be stale at the end, so the walk goes on with the next replay. It need not go on after that: what a
replay does to a byte of the buffer itself is to leave it, to make it stale or to make it right, and doing that twice is
doing it once. That the graph after gives what its nodes give one by one, in any such order, is the race check's matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

from forerun.ir.buffer import ALLOCATION_ALIGNMENT, Buffer
from forerun.ir.graph import Graph
from forerun.ir.nodes import Argument, ConstantArgument, EmptyNode, KernelNode, MemcpyNode
from forerun.ir.refinement.fused import claims
from forerun.ir.refinement.stale_bytes import StaleBytes
from forerun.ir.semantics.access import NodeAccess, accesses, is_event
from forerun.ir.semantics.order import event_order
from forerun.ir.types import BufferRole

__all__ = ["WrongCopy", "copied", "in_order_of", "without_copies"]


@dataclass(frozen=True, slots=True)
class WrongCopy:
    """What is not known to be right about copies: the node, empty for the replay's end, and a sentence about it."""

    node: str
    message: str


def without_copies(before: Graph, after: Graph) -> tuple[Graph, list[WrongCopy]]:
    """The graph after with the buffers of before in the place of their copies, and what is wrong with these.

    Temporaries lie where they lay before (:mod:`~forerun.ir.refinement.relocation`).
    """
    copies = copied(before, after)
    if not copies:
        return after, []
    elsewhere = _uses_elsewhere(before, after, copies)
    if elsewhere:
        return after, elsewhere
    undone = _undone(before, after, copies)
    return undone, [*_Walk(before, after, undone, copies).wrong(), *_across_events(before, after)]


def copied(before: Graph, after: Graph) -> dict[str, str]:
    """The buffers of before, by those temporaries of after that are new and are copies of them.

    All new copies from or to such a temporary have that one buffer as their other end, as a whole.
    """
    found: dict[str, set[str]] = {}
    for node in _new_copies(before, after):
        names = {node.source.buffer, node.destination.buffer}
        for name in names - set(before.buffers):
            found.setdefault(name, set()).update(names - {name})
    single = {name: min(others) for name, others in found.items() if len(others) == 1}
    return {name: other for name, other in single.items() if _is_copy(before, after, name, single)}


def _new_copies(before: Graph, after: Graph) -> Iterator[MemcpyNode]:
    for name, node in after.nodes.items():
        if not isinstance(node, MemcpyNode) or name in before.nodes:
            continue
        if node.source.region.is_whole and node.destination.region.is_whole:
            yield node


def _is_copy(before: Graph, after: Graph, name: str, of: Mapping[str, str]) -> bool:
    copy, original = after.buffers.get(name), before.buffers.get(of[name])
    if copy is None or original is None or copy.role is not BufferRole.TEMP:
        return False
    if _alignment(copy) < _alignment(original):
        return False
    # Who reads a copy cannot tell that its elements ascend: only of what the caller gives is that promised.
    moved = replace(copy, name=original.name, role=original.role, ascending=original.ascending)
    is_plain = original.index is None  # else what its accesses are depends on another buffer
    return is_plain and replace(moved, allocation=original.allocation, offset=original.offset) == original


def _alignment(buffer: Buffer) -> int:
    return math.gcd(buffer.offset, ALLOCATION_ALIGNMENT)


def _uses_elsewhere(before: Graph, after: Graph, copies: Mapping[str, str]) -> list[WrongCopy]:
    """The nodes that use a copy, and neither make it nor launch a kernel: in these nothing is put back."""
    made = {node.name for node in _new_copies(before, after) if _version(node, copies)}
    found = []
    for name, touched in accesses(after).items():
        used = next((a.buffer for a in touched if a.buffer in copies), None)
        if used is not None and name not in made and not isinstance(after.nodes[name], KernelNode):
            found.append(WrongCopy(name, f"uses %{used}, a copy of %{copies[used]}, but launches no kernel"))
    return found


def in_order_of(before: Graph, after: Graph) -> Graph:
    """The graph after with its nodes in the order of before, as far as its dependencies allow, and copies early.

    That order gives what launch order gives, since the dependencies of a graph without races order all that conflicts.
    With copies, nodes that conflict before may not conflict after, and launch order may have them the other way round.
    """
    import networkx as nx

    parts, place = claims(after), {name: i for i, name in enumerate(before.nodes)}
    when = {name: max((place.get(part, -1) for part in parts.get(name, (name,))), default=-1) for name in after.nodes}
    keys = {name: (when[name], i) for i, name in enumerate(after.nodes)}
    order = nx.lexicographical_topological_sort(after.topology, key=keys.__getitem__)
    tables = after.allocations.values(), after.buffers.values(), after.kernels.values()
    return Graph(after.name, *tables, [after.nodes[name] for name in order], after.dependencies)


def _undone(before: Graph, after: Graph, copies: Mapping[str, str]) -> Graph:
    """The graph after with the buffers themselves, and an empty node for each copy."""
    edit = after.edit()
    new = {node.name for node in _new_copies(before, after)}
    for name, node in after.nodes.items():
        if isinstance(node, KernelNode):
            edit.replace_node(replace(node, arguments=tuple((p, _original(a, copies)) for p, a in node.arguments)))
        elif isinstance(node, MemcpyNode) and name in new and _version(node, copies):
            edit.replace_node(EmptyNode(name, node.place))
    for name in copies:
        edit.remove_buffer(name)
    return edit.commit()


def _version(node: MemcpyNode, copies: Mapping[str, str]) -> str:
    """The temporary that a node copies from or to, if the other end is the buffer that it is a copy of."""
    source, destination = node.source.buffer, node.destination.buffer
    if copies.get(destination) == source:
        return destination
    return source if copies.get(source) == destination else ""


def _original(argument: Argument, copies: Mapping[str, str]) -> Argument:
    if isinstance(argument, ConstantArgument):
        return argument
    return replace(argument, buffer=copies.get(argument.buffer, argument.buffer))


def _across_events(before: Graph, after: Graph) -> Iterator[WrongCopy]:
    """Copies that are not ordered with an event node: others look at, or write, what they copy."""
    events = [name for name, node in after.nodes.items() if is_event(node)]
    if not events:
        return
    order = event_order(after)
    for copy in _new_copies(before, after):
        for event in events:
            first, second = sorted((copy.name, event), key=order.position.__getitem__)
            if not order.completes_before_start(first, second):
                yield WrongCopy(copy.name, f"copies while event node '{event}' may run")


@dataclass(frozen=True, slots=True)
class _Version:
    """A way in which bytes of an allocation exist: where they lie, and how many bytes further on than they belong."""

    allocation: str
    memory: str
    distance: int = 0


class _Walk:
    """The nodes of the graph after, one by one, twice; accesses are known by where they lie in both graphs."""

    def __init__(self, before: Graph, after: Graph, undone: Graph, copies: Mapping[str, str]) -> None:
        self.before, self.after, self.undone, self.copies = before, after, undone, copies
        self.versions = {name: self._version_of(name) for name in copies}
        memory = {after.buffers[name].allocation for name in copies}
        self.tracked = {before.buffers[name].allocation for name in copies.values()} | memory
        self.stale = {_Version(name, name): StaleBytes() for name in self.tracked}
        self.seen = [b for b in before.buffers.values() if b.allocation in self.tracked]
        self.seen = [b for b in self.seen if b.role is not BufferRole.TEMP]
        self.touching: set[str] = set()
        self.found: dict[str, WrongCopy] = {}

    def _version_of(self, name: str) -> _Version:
        copy, original = self.after.buffers[name], self.before.buffers[self.copies[name]]
        return _Version(original.allocation, copy.allocation, copy.offset - original.offset)

    def wrong(self) -> list[WrongCopy]:
        """All that is wrong, the first of each node."""
        for name in self.after.nodes:
            self._alike(name)
        if self.found:
            return list(self.found.values())
        for _ in range(2):
            self._forget_copies(list(self.copies))
            for name, node in self.after.nodes.items():
                if name in self.touching or is_event(node):
                    self._step(name)
            self._look("", "at the end of the replay")
        return list(self.found.values())

    def _note(self, node: str, message: str) -> None:
        self.found.setdefault(node, WrongCopy(node, message))

    def _alike(self, name: str) -> None:
        """Whether a node's own accesses share bytes with each other where they do in the graph undone."""
        touched, known = accesses(self.after)[name], accesses(self.undone)[name]
        if not any(a.allocation in self.tracked for a in (*touched, *known)):
            return
        self.touching.add(name)
        if not isinstance(self.after.nodes[name], KernelNode):
            return
        distances = (self.versions[a.buffer].distance if a.buffer in self.copies else 0 for a in touched)
        if [_extent(a, d) for a, d in zip(touched, distances, strict=True)] != [_extent(u) for u in known]:
            self._note(name, "accesses other bytes than it would without copies")
            return
        for (a, u), (b, v) in combinations(zip(touched, known, strict=True), 2):
            if (a.write or b.write) and _meet(self.after, a, b) != _meet(self.undone, u, v):
                self._note(name, f"uses %{a.buffer} and %{b.buffer}, which share bytes only in one of the graphs")

    def _forget_copies(self, names: list[str]) -> None:
        for name in names:
            original = self.before.buffers[self.copies[name]]
            self.stale.setdefault(self.versions[name], StaleBytes()).add(original.offset, original.stop)

    def _step(self, name: str) -> None:
        node = self.after.nodes[name]
        if is_event(node):
            self._look(name, "when it runs")
        if isinstance(node, MemcpyNode) and isinstance(self.undone.nodes[name], EmptyNode):
            self._copy(node)
        else:
            self._access(name)
        if is_event(node):  # others may write what they see
            roles = self.before.buffers
            self._forget_copies([m for m, x in self.copies.items() if roles[x].role is not BufferRole.TEMP])

    def _look(self, node: str, when: str) -> None:
        """Others look at all that is seen outside the replay."""
        for buffer in self.seen:
            if self.stale[_Version(buffer.allocation, buffer.allocation)].meets(buffer.offset, buffer.stop):
                self._note(node, f"%{buffer.name} may not hold {when} what it would without copies")

    def _copy(self, node: MemcpyNode) -> None:
        original = self.before.buffers[self.copies[_version(node, self.copies)]]
        own = _Version(original.allocation, original.allocation)
        source = self.versions.get(node.source.buffer, own)
        destination = self.versions.get(node.destination.buffer, own)
        start, stop = original.offset, original.stop
        handed_on = self.stale[source].within(start, stop)
        self._overwrite(destination, start, stop)
        self.stale[destination].remove(start, stop)
        for piece in handed_on:
            self.stale[destination].add(*piece)

    def _access(self, name: str) -> None:
        if name not in self.touching:
            return
        pairs = list(zip(accesses(self.after)[name], accesses(self.undone)[name], strict=True))
        for access, known in pairs:
            version = self._accessed(access, known)
            if version in self.stale and not access.write and self.stale[version].meets(*self._hull(known)):
                message = f"reads bytes of %{access.buffer} that may not be those of %{known.buffer}"
                self._note(name, message if access.buffer in self.copies else f"{message} without copies")
        for access, known in pairs:
            version = self._accessed(access, known)
            if access.write and version.memory in self.tracked:
                start, stop = self._hull(known)
                self._written(version, known, start, stop)

    def _written(self, version: _Version, known: NodeAccess, start: int, stop: int) -> None:
        if version.allocation in self.tracked:
            for other, stale in self.stale.items():
                if other.allocation == version.allocation and other != version:
                    stale.add(start, stop)
        self._overwrite(version, start, stop)
        if known.definite and known.bytes.is_constant and not known.bytes.levels:
            self.stale[version].remove(start, stop)

    def _overwrite(self, version: _Version, start: int, stop: int) -> None:
        """What shares memory with a version is stale where that is written."""
        for other, stale in self.stale.items():
            if other.memory == version.memory and other != version:
                distance = version.distance - other.distance
                stale.add(start + distance, stop + distance)

    def _accessed(self, access: NodeAccess, known: NodeAccess) -> _Version:
        return self.versions.get(access.buffer) or _Version(known.allocation, access.allocation)

    def _hull(self, known: NodeAccess) -> tuple[int, int]:
        """The bytes that an access may touch, in the graph undone, as one range."""
        buffer = self.undone.buffers.get(known.buffer)
        if known.bytes.is_constant:
            return known.bytes.start, known.bytes.stop
        return (0, self.undone.allocations[known.allocation].size) if buffer is None else (buffer.offset, buffer.stop)


def _meet(graph: Graph, a: NodeAccess, b: NodeAccess) -> bool:
    """Whether two accesses of a node may share bytes; where it is not known which ones, all of their buffers."""
    if not a.overlaps(b) or (a.bytes.is_constant and b.bytes.is_constant):
        return a.overlaps(b)
    first, second = graph.buffers[a.buffer], graph.buffers[b.buffer]
    return first.offset < second.stop and second.offset < first.stop


def _extent(access: NodeAccess, distance: int = 0) -> tuple[object, ...]:
    """What an access says but for the names of buffers, from the place that it would have without copies."""
    found = access.bytes.moved(-distance)
    factors = (tuple(factor for _, factor in terms) for terms in (found.start_terms, found.stop_terms))
    reach = found.start, found.stop, *factors, found.run, found.levels, found.exact
    return access.phase, access.write, access.certain, access.always, reach
