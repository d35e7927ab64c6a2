"""Accesses that conflict with the same others, kept together: those that are alike, and trees of these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

from forerun.ir.semantics.access import NodeAccess
from forerun.ir.semantics.byteset import ByteSet

__all__ = ["AccessTree", "Alike", "Bundle", "Reached", "ones", "overlapping"]

_PARTS = 8
"""How many parts a bundle has at the most."""


def ones(bits: int) -> Iterator[int]:
    """The places of the ones of a bit set, ascending."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


class Alike:
    """Accesses that differ in nothing but their nodes and phases, so that they conflict with the same others.

    Of which nodes they are is a bit set (a Python integer) over launch positions, counted from that of the first; so a
    graph in which thousands of nodes touch the same bytes takes a few operations on integers for each node.

    Attributes:
        first: One of them.
        base: The launch position of the first one's node.
        nodes: The nodes whose accesses are exposed.
        number: When the first was added; each is counted.
    """

    __slots__ = ("_members", "_times", "base", "first", "key", "nodes", "number")

    def __init__(self, first: NodeAccess, base: int, number: int, key: object = None) -> None:
        self.first, self.base, self.number, self.key = first, base, number, key
        self.nodes = 1
        self._members: dict[int, list[tuple[int, NodeAccess]]] | None = None  # most have one member, and need none
        self._times: dict[int, int] = {}

    def add(self, position: int, number: int, access: NodeAccess) -> None:
        """Note another access of the node at some position."""
        if self._members is None:
            self._members, self._times = {self.base: [(self.number, self.first)]}, {1: 1}
        members = self._members.setdefault(position, [])
        bit = 1 << position - self.base
        if members:
            self._times[len(members)] ^= bit
        members.append((number, access))
        self._times[len(members)] = self._times.get(len(members), 0) | bit
        self.nodes |= bit

    def count(self, nodes: int) -> int:
        """How many accesses some of the nodes have."""
        if len(self._times) <= 1:
            return nodes.bit_count()
        return sum(times * (nodes & some).bit_count() for times, some in self._times.items())

    def of(self, nodes: int) -> Iterator[tuple[int, NodeAccess]]:
        """The accesses of some of the nodes, each with its number."""
        if self._members is None:
            if nodes:
                yield self.number, self.first
            return
        for at in ones(nodes):
            yield from self._members[self.base + at]

    def alike(self) -> Iterator[Alike]:
        """Itself."""
        yield self


class Bundle:
    """Accesses that were exposed at some time, by where they are: it stands for them as an :class:`Alike` does.

    All are reads or all are writes, with the same symbols at all ends, and the first one is like the others in whether
    it is released, and in whether conflicts with it may be certain.

    Attributes:
        parts: What it consists of, by first bytes.
        first: One of the accesses.
        base: The first launch position.
        nodes: The nodes whose accesses were exposed at that time, as positions from the base on.
        number: When the first of them was added.
        starts: The lowest and the highest first byte.
        stops: The lowest and the highest end.
        is_plain: Whether each is its hull, so that a set that overlaps the hull overlaps it.
    """

    __slots__ = ("base", "first", "is_plain", "nodes", "number", "parts", "starts", "stops")

    def __init__(self, parts: Sequence[Alike | Bundle]) -> None:
        self.parts = parts
        self.first: NodeAccess = parts[0].first
        self.base: int = min([part.base for part in parts])
        self.number: int = min([part.number for part in parts])
        self.nodes, self.is_plain = 0, True
        starts: list[int] = []
        stops: list[int] = []
        for part in parts:
            self.nodes |= part.nodes << part.base - self.base
            if isinstance(part, Alike):
                where = part.first.bytes
                starts.append(where.start)
                stops.append(where.stop)
                self.is_plain = self.is_plain and not where.levels
            else:
                starts += part.starts
                stops += part.stops
                self.is_plain = self.is_plain and part.is_plain
        self.starts: tuple[int, int] = (min(starts), max(starts))
        self.stops: tuple[int, int] = (min(stops), max(stops))

    def count(self, nodes: int) -> int:
        """How many accesses some of the nodes have."""
        return sum(part.count(own) for part, own in self._shares(nodes))

    def of(self, nodes: int) -> Iterator[tuple[int, NodeAccess]]:
        """The accesses of some of the nodes, each with its number."""
        for part, own in self._shares(nodes):
            yield from part.of(own)

    def _shares(self, nodes: int) -> Iterator[tuple[Alike | Bundle, int]]:
        for part in self.parts:
            own = nodes >> part.base - self.base & part.nodes
            if own:
                yield part, own

    def alike(self) -> Iterator[Alike]:
        """Its accesses, those that are alike together."""
        for part in self.parts:
            yield from part.alike()


Reached: TypeAlias = tuple[tuple[Alike | Bundle, int], ...]
"""Accesses that are kept together, and the nodes of which they are meant."""


class AccessTree:
    """The exposed accesses by where they are, as a tree of bundles.

    A change replaces the bundles from its leaf to the root, and leaves those that were given out as they are.

    Args:
        places: For each key of accesses that are alike, and that will ever be in the tree, their first byte.
    """

    def __init__(self, places: Mapping[object, int]) -> None:
        self._slots = {key: slot for slot, key in enumerate(sorted(places, key=places.__getitem__))}
        self._levels: list[list[Alike | Bundle | None]] = [[None] * len(places)]
        while len(self._levels[-1]) > 1:
            self._levels.append([None] * -(-len(self._levels[-1]) // _PARTS))
        self._stale: set[int] = set()

    def put(self, alike: Alike) -> None:
        """Note that accesses are exposed, or that there is another one of them."""
        self._set(alike.key, alike)

    def remove(self, alike: Alike) -> None:
        """Note that accesses are not exposed any more."""
        self._set(alike.key, None)

    def _set(self, key: object, alike: Alike | None) -> None:
        slot = self._slots[key]
        self._levels[0][slot] = alike
        self._stale.add(slot)

    def root(self) -> Alike | Bundle | None:
        """All that is exposed now."""
        stale: Iterable[int] = self._stale
        for below, level in pairwise(self._levels):
            stale = {at // _PARTS for at in stale}
            for at in stale:
                parts = [part for part in below[at * _PARTS : (at + 1) * _PARTS] if part is not None]
                level[at] = Bundle(parts) if len(parts) > 1 else parts[0] if parts else None
        self._stale.clear()
        return self._levels[-1][0]


def overlapping(root: Alike | Bundle, reach: ByteSet, *, together: bool) -> list[Alike | Bundle]:
    """What of a bundle overlaps a set that has the same symbols.

    Args:
        root: The bundle.
        reach: The set.
        together: Whether bundles may stand for their parts where a set overlaps all of them.
    """
    together = together and not reach.levels
    start, stop = reach.start, reach.stop
    found: list[Alike | Bundle] = []
    rest = [root]
    while rest:
        part = rest.pop()
        if isinstance(part, Alike):
            if reach.overlaps(part.first.bytes):
                found.append(part)
        elif part.starts[0] < stop and part.stops[1] > start:
            if together and part.is_plain and part.starts[1] < stop and part.stops[0] > start:
                found.append(part)
            else:
                rest += part.parts
    return found
