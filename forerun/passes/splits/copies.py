"""Copies at the borders of splits: when they are needed, and how early they can be.

A version of a unit (:mod:`versions`) is *fresh* where it holds what the unit holds; a use of one that is not is
preceded by a copy from one that is, as early as the data is there: right after the last node that wrote it, or that
used what the copy overwrites.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from forerun.ir.buffer import Allocation, Buffer
from forerun.ir.graph import Graph
from forerun.ir.nodes import Argument, ConstantArgument, KernelNode, MemcpyNode, Node
from forerun.ir.refinement.stale_bytes import StaleBytes
from forerun.ir.region import BufferView
from forerun.ir.semantics import NodeAccess, accesses
from forerun.ir.semantics.access import is_event
from forerun.ir.types import BufferRole, Place
from forerun.passes.splits.versions import Far, Key, Names, Unit, Versions, suffix_of, units_of

__all__ = ["Copies", "Walk", "planned_copies"]


@dataclass(slots=True)
class Copies:
    """What a graph needs so that its kernels use buffers of their own places.

    Attributes:
        allocations: The memory of the versions.
        buffers: The versions.
        nodes: All nodes in launch order, with the copies, and with arguments at their places.
        bytes: What the copies move in a replay.
    """

    allocations: list[Allocation]
    buffers: list[Buffer]
    nodes: list[Node]
    bytes: int


def planned_copies(
    graph: Graph, order: Sequence[str], far: Far, slots: int, walk_of: type[Walk] | None = None
) -> Copies:
    """The copies that a graph needs in an order of its nodes.

    Args:
        graph: A valid graph.
        order: Its nodes, in an order that its hazards allow.
        far: What is used where it does not lie (:func:`far_uses`).
        slots: How many nodes' weights may be on a device at a time, of those that one node uses; 0 for all.
        walk_of: What decides about copies; tests have wrong ones.
    """
    far = {name: far[name] for name in order if name in far}
    units = units_of(graph, far)
    tables: Mapping[str, Iterable[str]] = {"buffers": graph.buffers, "allocations": graph.allocations}
    versions = Versions(units, far, slots, {kind: Names(taken) for kind, taken in tables.items()})
    walk = (walk_of or Walk)(graph, units, far, versions)
    for position, name in enumerate(order):
        walk.step(position, name)
    walk.finish(len(order))
    redirected = (_redirected(graph.nodes[name], far.get(name, {}), versions) for name in order)
    placed = [((position, 0), node) for position, node in enumerate(redirected)]
    nodes = [node for _, node in sorted([*placed, *walk.copies], key=lambda pair: pair[0])]
    return Copies(versions.allocations, list(versions.buffers.values()), nodes, walk.bytes)


class Walk:
    """The nodes one by one: what is fresh where, and the copies that come of it."""

    def __init__(self, graph: Graph, units: Sequence[Unit], far: Far, versions: Versions) -> None:
        self._graph, self._far, self._versions, self._names = graph, far, versions, Names(graph.nodes)
        self.units = units
        self._number_of = {buffer.name: number for number, unit in enumerate(units) for buffer in unit.buffers}
        self._in_allocation: dict[str, list[int]] = {}
        for number, unit in enumerate(units):
            self._in_allocation.setdefault(unit.buffers[0].allocation, []).append(number)
        self._in_slot: dict[str, set[tuple[int, Place]]] = {}
        self._linked: set[tuple[int, Place]] = set()
        self._count = 0
        self.copies: list[tuple[Key, Node]] = []
        self.bytes = 0

    def step(self, position: int, name: str) -> None:
        """What a node needs, and what it changes."""
        event = is_event(self._graph.nodes[name])
        if event:
            self.return_all(position)
        uses = self._uses(name)
        for (number, place), found in uses.items():
            unit, writes = self.units[number], [access for access in found if access.write]
            if place not in unit.fresh and (len(writes) < len(found) or not self.is_covered(unit, writes)):
                self.copy(number, place, position)
        for (number, place), found in uses.items():
            unit = self.units[number]
            unit.last_use[place] = position, 0
            if any(access.write for access in found):
                unit.fresh = {place}
                unit.made[place] = position, 0
        if event:
            self.seen_by_others(position)

    def finish(self, length: int) -> None:
        """Return what others see after the replay.

        What was written elsewhere, and at home before it was read, is returned, too: a version without any copy would
        be a buffer that nobody can tell the meaning of.
        """
        self.return_all(length)
        for number, unit in enumerate(self.units):
            for place in unit.places:
                if (number, place) not in self._linked and place in unit.made:
                    self._put(number, place, unit.home, unit.made[place])

    def is_covered(self, unit: Unit, writes: Sequence[NodeAccess]) -> bool:
        """Whether some accesses certainly write all bytes of a unit."""
        left = StaleBytes()
        for buffer in unit.buffers:
            left.add(buffer.offset, buffer.stop)
        for write in writes:
            if write.definite and write.bytes.is_constant and not write.bytes.levels:
                left.remove(write.bytes.start, write.bytes.stop)
        return not left.ranges

    def _uses(self, name: str) -> dict[tuple[int, Place], list[NodeAccess]]:
        """The accesses of a node to units, by the version that it uses."""
        far, found = self._far.get(name, {}), dict[tuple[int, Place], list[NodeAccess]]()
        for access in accesses(self._graph)[name]:
            if access.buffer in far:
                found.setdefault((self._number_of[access.buffer], far[access.buffer]), []).append(access)
            else:
                for number in self._in_allocation.get(access.allocation, ()):
                    unit = self.units[number]
                    if unit.is_met_by(access):
                        found.setdefault((number, unit.home), []).append(access)
        return found

    def return_all(self, position: int) -> None:
        """Return what others may look at now."""
        for number, unit in enumerate(self.units):
            if unit.role is not BufferRole.TEMP and unit.home not in unit.fresh:
                self.copy(number, unit.home, position)

    def seen_by_others(self, position: int) -> None:
        """Others may have written what they see: it is fresh at home alone."""
        for unit in self.units:
            if unit.role is not BufferRole.TEMP:
                unit.fresh = {unit.home}
                unit.made[unit.home] = position, 0
                unit.last_use = dict.fromkeys([unit.home, *unit.places], (position, 0))

    def copy(self, number: int, place: Place, position: int) -> None:
        """Make a unit fresh at a place, before the node at a position."""
        unit = self.units[number]
        others = [unit.home, *unit.places]
        source = next(other for other in others if other in unit.fresh)
        if unit.home not in (source, place):
            self.copy(number, unit.home, position)
            source = unit.home
        start = (-1, 0)
        free = self.take_slot(number, place)
        at = max(unit.made.get(source, start), unit.last_use.get(place, start), *free, start)
        key = self._put(number, source, place, at)
        unit.fresh.add(place)
        unit.made[place] = unit.last_use[place] = key
        unit.last_use[source] = max(unit.last_use.get(source, start), key)

    def _put(self, number: int, source: Place, place: Place, at: Key) -> Key:
        """Copy a unit from a place to another one, right after what happens then; when it is there."""
        self._linked |= {(number, source), (number, place)}
        for buffer in self.units[number].buffers:
            self._count += 1
            begin, end = (BufferView(self._versions.name_of(buffer.name, one)) for one in (source, place))
            name = self._names.new(f"{buffer.name}.to_{suffix_of(place)}")
            device = source if place.kind == "host" else place
            self.copies.append(((at[0], self._count), MemcpyNode(name, begin, end, device)))
            self.bytes += buffer.size
        return at[0], self._count

    def take_slot(self, number: int, place: Place) -> Iterator[Key]:
        """Take the slot of a unit from those that are there and are not of the same node; when it is free."""
        slot = self._versions.slot_of.get((number, place))
        if slot is None:
            return
        own = self._versions.buffers[self.units[number].buffers[0].name, place]
        inside = self._in_slot.setdefault(slot, set())
        for other in sorted(inside - {(number, place)}, key=str):
            unit = self.units[other[0]]
            versions = (self._versions.buffers[buffer.name, place] for buffer in unit.buffers)
            if any(v.offset < own.offset + self._span(number) and own.offset < v.stop for v in versions):
                unit.fresh.discard(place)
                inside.discard(other)
                yield unit.last_use.get(place, (-1, 0))
        inside.add((number, place))

    def _span(self, number: int) -> int:
        return self.units[number].stop - self.units[number].start


def _redirected(node: Node, far: Mapping[str, Place], versions: Versions) -> Node:
    """A kernel node that uses the buffers of its own place."""
    if not far or not isinstance(node, KernelNode):
        return node

    def moved(argument: Argument) -> Argument:
        if isinstance(argument, ConstantArgument) or argument.buffer not in far:
            return argument
        return replace(argument, buffer=versions.name_of(argument.buffer, far[argument.buffer]))

    return replace(node, arguments=tuple((parameter, moved(argument)) for parameter, argument in node.arguments))
