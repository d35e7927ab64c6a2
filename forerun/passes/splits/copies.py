"""Copies at the borders of splits: which buffers get a version at another place, and when it is copied.

A *unit* is a set of buffers that share bytes, and that kernels use at a place where they do not lie. It has its own
memory at each such place. A version is *fresh* where it holds what the unit holds; a use of one that is not is preceded
by a copy from one that is, as early as the data is there: right after the last node that wrote it, or that used what the
copy overwrites.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from networkx.utils import UnionFind

from forerun.ir.buffer import ALLOCATION_ALIGNMENT, Allocation, Buffer, Paged, Ragged
from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import AllocNode, Argument, ConstantArgument, FreeNode, KernelNode, MemcpyNode, MemsetNode, Node
from forerun.ir.refinement.copied import StaleBytes
from forerun.ir.region import BufferView
from forerun.ir.semantics import NodeAccess, accesses
from forerun.ir.semantics.access import is_event
from forerun.ir.types import HOST, BufferRole, Place

__all__ = ["Copies", "Unit", "Walk", "far_uses", "planned_copies", "settled"]

Far: TypeAlias = Mapping[str, Mapping[str, Place]]
"""For each kernel node, the buffers that do not lie at its place, with that place."""

_Key: TypeAlias = tuple[int, int]
"""When something happens: the position of a node, and a number that counts the copies after it."""


def far_uses(graph: Graph, direct: Collection[str] = ()) -> dict[str, dict[str, Place]]:
    """For each kernel node, the buffers that it uses and that do not lie at its place, with that place.

    Args:
        graph: A valid graph.
        direct: Buffers of the host that kernels of a device use where they are.
    """
    found: dict[str, dict[str, Place]] = {}
    for name, node in graph.nodes.items():
        if isinstance(node, KernelNode) and not _is_foreign(graph.kernels[node.kernel]):
            far = {b: node.place for b in _used(graph, name) if _home(graph, b) != node.place}
            far = {b: place for b, place in far.items() if place.kind == "host" or b not in direct}
            if far:
                found[name] = far
    return found


def settled(graph: Graph) -> Graph:
    """The graph with the memory on the host that kernels of the host use, and nothing but these, copies and fills."""
    users: dict[str, set[Place]] = {}
    for name, node in graph.nodes.items():
        if not isinstance(node, MemcpyNode | MemsetNode | AllocNode | FreeNode):
            used = [access.buffer for access in accesses(graph)[name] if access.buffer in graph.buffers]
            for buffer in dict.fromkeys([*used, *_used(graph, name)]):
                users.setdefault(graph.buffers[buffer].allocation, set()).add(node.place)
    edit = graph.edit()
    for allocation, places in users.items():
        if places == {HOST}:
            edit.set_allocation(replace(graph.allocations[allocation], place=HOST))
    return edit.commit()


def _is_foreign(kernel: Kernel) -> bool:
    """Whether nobody knows all that a kernel touches: it uses what it was given, where it is."""
    return kernel.is_black_box or kernel.has_foreign_code


def _used(graph: Graph, name: str) -> Iterable[str]:
    node = graph.nodes[name]
    arguments = node.arguments if isinstance(node, KernelNode) else ()
    named = [argument.buffer for _, argument in arguments if not isinstance(argument, ConstantArgument)]
    indexed = [index for buffer in named if (index := graph.buffers[buffer].index_buffer)]
    return dict.fromkeys([*named, *indexed])


def _home(graph: Graph, buffer: str) -> Place:
    return graph.allocations[graph.buffers[buffer].allocation].place


@dataclass(slots=True)
class Unit:
    """Buffers that share bytes, and where else than at home they are used.

    Attributes:
        role: That of all of them, or ``STATE`` if they differ: what others may see.
        places: The places where kernels use them that are not their home.
        fresh: The places where the unit is as it should be.
        made: When it became so, by place.
        last_use: When each version was used last.
    """

    buffers: list[Buffer]
    home: Place
    role: BufferRole
    places: list[Place] = field(default_factory=list)
    fresh: set[Place] = field(default_factory=set)
    made: dict[Place, _Key] = field(default_factory=dict)
    last_use: dict[Place, _Key] = field(default_factory=dict)

    @property
    def start(self) -> int:
        """The first byte of its allocation that a version has: a multiple of the alignment of allocations."""
        return min(buffer.offset for buffer in self.buffers) // ALLOCATION_ALIGNMENT * ALLOCATION_ALIGNMENT

    @property
    def stop(self) -> int:
        """The byte after the last."""
        return max(buffer.stop for buffer in self.buffers)

    def is_met_by(self, access: NodeAccess) -> bool:
        """Whether an access may touch one of the buffers."""
        if access.allocation != self.buffers[0].allocation:
            return False
        bytes_ = access.bytes
        if not bytes_.is_constant:
            return True
        return any(bytes_.start < b.stop and b.offset < bytes_.stop for b in self.buffers)


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
    units = _units(graph, far)
    tables: Mapping[str, Iterable[str]] = {"buffers": graph.buffers, "allocations": graph.allocations}
    versions = Versions(units, far, slots, {kind: _Names(taken) for kind, taken in tables.items()})
    walk = (walk_of or Walk)(graph, units, far, versions)
    for position, name in enumerate(order):
        walk.step(position, name)
    walk.finish(len(order))
    redirected = (_redirected(graph.nodes[name], far.get(name, {}), versions) for name in order)
    placed = [((position, 0), node) for position, node in enumerate(redirected)]
    nodes = [node for _, node in sorted([*placed, *walk.copies], key=lambda pair: pair[0])]
    return Copies(versions.allocations, list(versions.buffers.values()), nodes, walk.bytes)


def _units(graph: Graph, far: Far) -> list[Unit]:
    """The buffers that are used away from home, by what shares bytes with each other."""
    used: dict[str, dict[Place, None]] = {}
    for found in far.values():
        for name, place in found.items():
            used.setdefault(name, {})[place] = None
    groups: dict[str, list[str]] = {}
    sets = UnionFind(used)
    by_start = sorted(used, key=lambda name: (graph.buffers[name].allocation, graph.buffers[name].offset))
    last = None
    for name in by_start:
        buffer = graph.buffers[name]
        if last is not None and last.allocation == buffer.allocation and buffer.offset < last.stop:
            sets.union(last.name, name)
        if last is None or last.allocation != buffer.allocation or buffer.stop > last.stop:
            last = buffer
    for name in used:
        groups.setdefault(sets[name], []).append(name)
    return [_unit(graph, found, used) for found in groups.values()]


def _unit(graph: Graph, names: Sequence[str], used: Mapping[str, Mapping[Place, None]]) -> Unit:
    buffers = [graph.buffers[name] for name in names]
    roles = {buffer.role for buffer in buffers}
    role = roles.pop() if len(roles) == 1 else BufferRole.STATE
    places = list(dict.fromkeys(place for name in names for place in used[name]))
    home = _home(graph, names[0])
    # What a temporary holds before it is written matters to nobody, so all versions of it are as good.
    fresh = {home, *places} if role is BufferRole.TEMP else {home}
    return Unit(buffers, home, role, places, fresh)


class _Names:
    """Names of one kind that a graph does not have yet."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)

    def new(self, stem: str) -> str:
        name, number = stem, 2
        while name in self._taken:
            name, number = f"{stem}.{number}", number + 1
        self._taken.add(name)
        return name


def _suffix(place: Place) -> str:
    return "host" if place.kind == "host" else f"{place.kind}{place.index}"


class Versions:
    """The memory of units at the places where they do not lie.

    Weights of the host that a device's kernels use, each one of them, take turns: those of one node lie in one slot, and
    those of later nodes in the next, round and round, so that a slot is filled while nodes use another.
    """

    def __init__(self, units: Sequence[Unit], far: Far, slots: int, names: Mapping[str, _Names]) -> None:
        self.allocations: list[Allocation] = []
        self.buffers: dict[tuple[str, Place], Buffer] = {}
        self.slot_of: dict[tuple[int, Place], str] = {}
        self._names = names
        self._slots: dict[tuple[Place, int], str] = {}
        users = _single_users(units, far) if slots else {}
        stages: dict[tuple[str, Place], list[int]] = {}
        for number, unit in enumerate(units):
            for place in unit.places:
                user = users.get((number, place))
                if user is None or unit.role is not BufferRole.WEIGHT or place.kind == "host":
                    self._own(unit, place)
                else:
                    stages.setdefault((user, place), []).append(number)
        self._in_slots(units, stages, slots)
        self._with_indices()

    def _own(self, unit: Unit, place: Place) -> None:
        """Memory for one unit alone."""
        allocation = self._names["allocations"].new(f"{unit.buffers[0].name}.{_suffix(place)}")
        self.allocations.append(Allocation(allocation, unit.stop - unit.start, place))
        self._put(unit, place, allocation, 0)

    def _put(self, unit: Unit, place: Place, allocation: str, at: int) -> None:
        for buffer in unit.buffers:
            name = self._names["buffers"].new(f"{buffer.name}.{_suffix(place)}")
            moved = replace(buffer, name=name, role=BufferRole.TEMP, allocation=allocation)
            self.buffers[buffer.name, place] = replace(moved, offset=at + buffer.offset - unit.start)

    def _in_slots(self, units: Sequence[Unit], stages: Mapping[tuple[str, Place], list[int]], slots: int) -> None:
        """Memory for units in turns: a stage is what one node uses."""
        sizes: dict[tuple[Place, int], int] = {}
        turns: dict[Place, int] = {}
        for (_, place), numbers in stages.items():
            turn = place, turns.get(place, 0) % slots
            turns[place] = turn[1] + 1
            if turn not in self._slots:
                self._slots[turn] = self._names["allocations"].new(f"slot{turn[1]}.{_suffix(place)}")
            at = 0
            for number in numbers:
                unit = units[number]
                self._put(unit, place, self._slots[turn], at)
                self.slot_of[number, place] = self._slots[turn]
                at += -(-(unit.stop - unit.start) // ALLOCATION_ALIGNMENT) * ALLOCATION_ALIGNMENT
            sizes[turn] = max(sizes.get(turn, 0), at)
        self.allocations += [Allocation(self._slots[turn], size, turn[0]) for turn, size in sizes.items()]

    def _with_indices(self) -> None:
        """Page tables and index pointers are those of the same place."""
        for (name, place), buffer in self.buffers.items():
            table = self.buffers.get((buffer.index_buffer, place))
            if table is not None and isinstance(buffer.index, Paged):
                self.buffers[name, place] = replace(buffer, index=replace(buffer.index, table=table.name))
            elif table is not None and isinstance(buffer.index, Ragged):
                self.buffers[name, place] = replace(buffer, index=replace(buffer.index, offsets=table.name))

    def name_of(self, buffer: str, place: Place) -> str:
        """What a buffer is called at a place; by its own name where it has no version."""
        found = self.buffers.get((buffer, place))
        return buffer if found is None else found.name


def _single_users(units: Sequence[Unit], far: Far) -> dict[tuple[int, Place], str]:
    """The units that only one node uses at a place, with that node, in the order of the nodes."""
    number_of = {buffer.name: number for number, unit in enumerate(units) for buffer in unit.buffers}
    users: dict[tuple[int, Place], list[str]] = {}
    for node, found in far.items():
        for name, place in found.items():
            users.setdefault((number_of[name], place), []).append(node)
    return {key: found[0] for key, found in users.items() if len(set(found)) == 1}


class Walk:
    """The nodes one by one: what is fresh where, and the copies that come of it."""

    def __init__(self, graph: Graph, units: Sequence[Unit], far: Far, versions: Versions) -> None:
        self._graph, self._far, self._versions, self._names = graph, far, versions, _Names(graph.nodes)
        self.units = units
        self._number_of = {buffer.name: number for number, unit in enumerate(units) for buffer in unit.buffers}
        self._in_allocation: dict[str, list[int]] = {}
        for number, unit in enumerate(units):
            self._in_allocation.setdefault(unit.buffers[0].allocation, []).append(number)
        self._in_slot: dict[str, set[tuple[int, Place]]] = {}
        self._linked: set[tuple[int, Place]] = set()
        self._count = 0
        self.copies: list[tuple[_Key, Node]] = []
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
        for number, unit in enumerate(self.units):
            if unit.role is not BufferRole.TEMP and unit.home not in unit.fresh:
                self.copy(number, unit.home, position)

    def seen_by_others(self, position: int) -> None:
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

    def _put(self, number: int, source: Place, place: Place, at: _Key) -> _Key:
        """Copy a unit from a place to another one, right after what happens then; when it is there."""
        self._linked |= {(number, source), (number, place)}
        for buffer in self.units[number].buffers:
            self._count += 1
            ends = (self._versions.name_of(buffer.name, end) for end in (source, place))
            name = self._names.new(f"{buffer.name}.to_{_suffix(place)}")
            device = next(end for end in (place, source) if end.kind != "host")
            self.copies.append(((at[0], self._count), MemcpyNode(name, *map(BufferView, ends), device)))
            self.bytes += buffer.size
        return at[0], self._count

    def take_slot(self, number: int, place: Place) -> Iterator[_Key]:
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
