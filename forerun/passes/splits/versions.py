"""What is used at a place where it does not lie, and the memory that it gets there.

A *unit* is a set of buffers that share bytes, and that kernels use at a place where they do not lie. It has its own
memory, a *version*, at each such place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from networkx.utils import UnionFind

from forerun.ir.buffer import ALLOCATION_ALIGNMENT, Allocation, Buffer
from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import AllocNode, ConstantArgument, FreeNode, KernelNode, MemcpyNode, MemsetNode
from forerun.ir.semantics import NodeAccess, accesses
from forerun.ir.types import HOST, BufferRole, Place

__all__ = ["Far", "Key", "Names", "Unit", "Versions", "far_uses", "settled", "suffix_of", "units_of"]

Far: TypeAlias = Mapping[str, Mapping[str, Place]]
"""For each kernel node, the buffers that do not lie at its place, with that place."""

Key: TypeAlias = tuple[int, int]
"""When something happens: the position of a node, and a number that counts the copies after it."""


def far_uses(graph: Graph, direct: Collection[str] = ()) -> dict[str, dict[str, Place]]:
    """For each kernel node, the buffers that it uses and that do not lie at its place, with that place.

    Nodes whose accesses are not known, or go through a page table or an index pointer, use all buffers where they are.

    Args:
        graph: A valid graph.
        direct: Buffers of the host that kernels of a device use where they are.
    """
    found: dict[str, dict[str, Place]] = {}
    for name, node in graph.nodes.items():
        if isinstance(node, KernelNode) and not _is_foreign(graph.kernels[node.kernel]):
            used = _used(graph, name)
            far = {buffer: node.place for buffer in used if _home(graph, buffer) != node.place}
            far = {b: place for b, place in far.items() if place.kind == "host" or b not in direct}
            if far and not any(graph.buffers[buffer].index is not None for buffer in used):
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
    made: dict[Place, Key] = field(default_factory=dict)
    last_use: dict[Place, Key] = field(default_factory=dict)

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


def units_of(graph: Graph, far: Far) -> list[Unit]:
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


class Names:
    """Names of one kind that a graph does not have yet."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)

    def new(self, stem: str) -> str:
        """A name like the stem, with a number if that is taken."""
        name, number = stem, 2
        while name in self._taken:
            name, number = f"{stem}.{number}", number + 1
        self._taken.add(name)
        return name


def suffix_of(place: Place) -> str:
    """What names of versions at a place end with."""
    return "host" if place.kind == "host" else f"{place.kind}{place.index}"


class Versions:
    """The memory of units at the places where they do not lie.

    Weights of the host that only one kernel of a device uses take turns: those of one node lie in one slot, and those
    of later nodes in the next, round and round, so that a slot is filled while nodes use another.
    """

    def __init__(self, units: Sequence[Unit], far: Far, slots: int, names: Mapping[str, Names]) -> None:
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

    def _own(self, unit: Unit, place: Place) -> None:
        """Memory for one unit alone."""
        allocation = self._names["allocations"].new(f"{unit.buffers[0].name}.{suffix_of(place)}")
        self.allocations.append(Allocation(allocation, unit.stop - unit.start, place))
        self._put(unit, place, allocation, 0)

    def _put(self, unit: Unit, place: Place, allocation: str, at: int) -> None:
        for buffer in unit.buffers:
            name = self._names["buffers"].new(f"{buffer.name}.{suffix_of(place)}")
            moved = replace(buffer, name=name, role=BufferRole.TEMP, allocation=allocation, ascending=False)
            self.buffers[buffer.name, place] = replace(moved, offset=at + buffer.offset - unit.start)

    def _in_slots(self, units: Sequence[Unit], stages: Mapping[tuple[str, Place], list[int]], slots: int) -> None:
        """Memory for units in turns: a stage is what one node uses."""
        sizes: dict[tuple[Place, int], int] = {}
        turns: dict[Place, int] = {}
        for (_, place), numbers in stages.items():
            turn = place, turns.get(place, 0) % slots
            turns[place] = turn[1] + 1
            if turn not in self._slots:
                self._slots[turn] = self._names["allocations"].new(f"slot{turn[1]}.{suffix_of(place)}")
            at = 0
            for number in numbers:
                unit = units[number]
                self._put(unit, place, self._slots[turn], at)
                self.slot_of[number, place] = self._slots[turn]
                at += -(-(unit.stop - unit.start) // ALLOCATION_ALIGNMENT) * ALLOCATION_ALIGNMENT
            sizes[turn] = max(sizes.get(turn, 0), at)
        self.allocations += [Allocation(self._slots[turn], size, turn[0]) for turn, size in sizes.items()]

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
