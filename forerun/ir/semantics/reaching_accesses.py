"""The accesses of an allocation that may still conflict with a later one, found by where they are."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from operator import attrgetter
from typing import TypeAlias

from forerun.ir.semantics.access import NodeAccess
from forerun.ir.semantics.byteset import ByteSet

__all__ = ["Alike", "Reached", "ReachingAccesses", "ones"]


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


Reached: TypeAlias = tuple[tuple[Alike, int], ...]
"""Accesses that are alike, and the nodes of which they are meant."""

_Entry: TypeAlias = tuple[int, int, Alike]
"""First byte, number in order of addition, and the accesses."""

_Class: TypeAlias = tuple[tuple[tuple[str, int], ...] | None, int]
"""The symbols at both ends (``None``: different ones), and the length's number of bits."""


def ones(bits: int) -> Iterator[int]:
    """The places of the ones of a bit set, ascending."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


class _Index:
    """Accesses by where they are: for each power of two, those at most that long, sorted by their first byte.

    A class is searched by bisection, so a query costs what overlaps, and what ends less than its own length (rounded
    up) before; an arena with thousands of small views costs no more than a small allocation. Ends with different
    symbols cannot be compared, so only accesses with the same symbols at both ends are kept in this way, and apart from
    those with other symbols.
    """

    def __init__(self) -> None:
        self._classes: dict[_Class, list[_Entry]] = {}
        self._alike: dict[object, Alike] = {}

    def add(self, position: int, number: int, access: NodeAccess) -> None:
        key = _what(access)
        alike = self._alike.get(key)
        if alike is not None:
            alike.add(position, number, access)
            return
        alike = self._alike[key] = Alike(access, position, number, key)
        self._enter(alike)

    def _enter(self, alike: Alike) -> None:
        where = alike.first.bytes
        terms = where.start_terms
        if terms != where.stop_terms:
            self._classes.setdefault((None, 0), []).append((0, alike.number, alike))
            return
        kind = terms, (where.stop - where.start).bit_length()
        insort(self._classes.setdefault(kind, []), (where.start, alike.number, alike))

    def near(self, reach: ByteSet) -> list[Alike]:
        """The accesses that may overlap a set, and some others."""
        return [entry[2] for entries, first, last in self._ranges(reach) for entry in entries[first:last]]

    def remove_covered(self, cover: ByteSet) -> None:
        """Forget the accesses all of whose bytes are in a set."""
        for entries, first, last in self._ranges(cover):
            kept = []
            for entry in entries[first:last]:
                if cover.covers(entry[2].first.bytes):
                    del self._alike[entry[2].key]
                else:
                    kept.append(entry)
            if len(kept) != last - first:
                entries[first:last] = kept

    def _ranges(self, reach: ByteSet) -> list[tuple[list[_Entry], int, int]]:
        found = []
        comparable = reach.start_terms if reach.start_terms == reach.stop_terms else None
        for (terms, size), entries in self._classes.items():
            if terms != comparable or comparable is None:
                found.append((entries, 0, len(entries)))
            elif entries:
                first = bisect_left(entries, (reach.start - (1 << size) + 1,))
                last = bisect_left(entries, (reach.stop,), first)
                if first != last:
                    found.append((entries, first, last))
        return found


def _what(access: NodeAccess) -> object:
    """Equal for accesses that are alike; through which buffer matters only to what is certain of them.

    A plain tuple, since thousands of them are hashed.
    """
    where = access.bytes
    how = access.buffer if access.certain else "", access.certain, access.always, access.released, access.asynchronous
    ends = where.start, where.stop, where.start_terms, where.stop_terms
    return (*ends, where.run, where.levels, where.exact, *how)


class ReachingAccesses:
    """The accesses of one allocation so far, less those that a later write covered."""

    def __init__(self) -> None:
        self._reads = _Index()
        self._writes = _Index()
        self._count = 0

    def conflicting(self, access: NodeAccess) -> Reached:
        """What overlaps an access, with a write on one side at least; in the order of first additions."""
        found = self._writes.near(access.bytes)
        if access.write:
            found += self._reads.near(access.bytes)
        if len(found) > 1:
            found.sort(key=attrgetter("number"))
        overlaps = access.bytes.overlaps
        return tuple([(alike, alike.nodes) for alike in found if overlaps(alike.first.bytes)])

    def cover(self, write: NodeAccess) -> None:
        """Forget what a write covers."""
        self._reads.remove_covered(write.bytes)
        self._writes.remove_covered(write.bytes)

    def add(self, position: int, access: NodeAccess) -> None:
        """Note an access of the node at some launch position; one without bytes conflicts with nothing."""
        if not access.bytes.is_empty:
            (self._writes if access.write else self._reads).add(position, self._count, access)
            self._count += 1
