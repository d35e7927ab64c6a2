"""The accesses of an allocation that may still conflict with a later one, found by where they are."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from operator import itemgetter
from typing import TypeAlias

from forerun.ir.semantics.access import NodeAccess
from forerun.ir.semantics.byteset import ByteSet

__all__ = ["Exposed"]

_Entry: TypeAlias = tuple[int, int, NodeAccess]
"""First byte, number in order of addition, and the access."""

_Class: TypeAlias = tuple[tuple[tuple[str, int], ...] | None, int]
"""The symbols at both ends (``None``: different ones), and the length's number of bits."""


class _Index:
    """Accesses by where they are: for each power of two, those at most that long, sorted by their first byte.

    A class is searched by bisection, so a query costs what overlaps, and what ends less than its own length (rounded
    up) before; an arena with thousands of small views costs no more than a small allocation. Ends with different
    symbols cannot be compared, so only accesses with the same symbols at both ends are kept in this way, and apart from
    those with other symbols.
    """

    def __init__(self) -> None:
        self._classes: dict[_Class, list[_Entry]] = {}

    def add(self, number: int, access: NodeAccess) -> None:
        where = access.bytes
        terms = where.start_terms
        if terms != where.stop_terms:
            self._classes.setdefault((None, 0), []).append((0, number, access))
            return
        kind = terms, (where.stop - where.start).bit_length()
        insort(self._classes.setdefault(kind, []), (where.start, number, access))

    def near(self, reach: ByteSet) -> list[_Entry]:
        """The accesses that may overlap a set, and some others."""
        found: list[_Entry] = []
        for entries, first, last in self._ranges(reach):
            found += entries[first:last]
        return found

    def remove_covered(self, cover: ByteSet) -> None:
        """Forget the accesses all of whose bytes are in a set."""
        for entries, first, last in self._ranges(cover):
            kept = [entry for entry in entries[first:last] if not cover.covers(entry[2].bytes)]
            if len(kept) != last - first:
                entries[first:last] = kept

    def _ranges(self, reach: ByteSet) -> Iterator[tuple[list[_Entry], int, int]]:
        comparable = reach.start_terms if reach.start_terms == reach.stop_terms else None
        for (terms, size), entries in self._classes.items():
            if terms != comparable or comparable is None:
                yield entries, 0, len(entries)
            elif entries:
                first = bisect_left(entries, (reach.start - (1 << size) + 1,))
                last = bisect_left(entries, (reach.stop,), first)
                if first != last:
                    yield entries, first, last


class Exposed:
    """The accesses of one allocation so far, less those that a later write covered."""

    def __init__(self) -> None:
        self._reads = _Index()
        self._writes = _Index()
        self._count = 0

    def conflicting(self, access: NodeAccess) -> list[NodeAccess]:
        """What overlaps an access, with a write on one side at least; in order of addition."""
        found = self._writes.near(access.bytes)
        if access.write:
            found += self._reads.near(access.bytes)
        if len(found) > 1:
            found.sort(key=itemgetter(1))
        return [other for _, _, other in found if access.bytes.overlaps(other.bytes)]

    def cover(self, write: NodeAccess) -> None:
        """Forget what a write covers."""
        self._reads.remove_covered(write.bytes)
        self._writes.remove_covered(write.bytes)

    def add(self, access: NodeAccess) -> None:
        """Note an access; one without bytes conflicts with nothing."""
        if not access.bytes.is_empty:
            (self._writes if access.write else self._reads).add(self._count, access)
            self._count += 1
