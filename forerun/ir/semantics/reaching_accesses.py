"""The accesses of an allocation that may still conflict with a later one, found by where they are."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from operator import attrgetter
from typing import TypeAlias

from forerun.ir.semantics.access import NodeAccess
from forerun.ir.semantics.alike import AccessTree, Alike, Bundle, Reached, overlapping
from forerun.ir.semantics.byteset import ByteSet

__all__ = ["ReachingAccesses"]

_FEW = 16
"""If more accesses than this may overlap one, a tree is made of them, and those that do are kept together."""

_Entry: TypeAlias = tuple[int, int, Alike]
"""First byte, number in order of addition, and the accesses."""

_Symbols: TypeAlias = tuple[tuple[str, int], ...] | None
"""The symbols at both ends; ``None`` for different ones."""

_Class: TypeAlias = tuple[_Symbols, int]
"""Symbols, and the length's number of bits."""

_Kind: TypeAlias = tuple[_Symbols, bool, bool]
"""Symbols, whether a fenced trigger releases the accesses, and whether conflicts with them may be certain."""


class _Index:
    """The exposed reads, or writes, by where they are: for each power of two, those at most that long, by first bytes.

    A class is searched by bisection, so a query costs what overlaps, and what ends less than its own length (rounded
    up) before; an arena with thousands of small views costs no more than a small allocation. Ends with different
    symbols cannot be compared, so only accesses with the same symbols at both ends are kept in this way, and apart from
    those with other symbols.

    Where much overlaps a query, it is found in trees, which give it together.

    Args:
        known: All accesses that there will be.
    """

    def __init__(self, known: Sequence[NodeAccess]) -> None:
        self._known = known
        self._classes: dict[_Class, list[_Entry]] = {}
        self._alike: dict[object, Alike] = {}
        self._trees: dict[_Kind, AccessTree] = {}

    def add(self, position: int, number: int, access: NodeAccess) -> None:
        key = _what(access)
        alike = self._alike.get(key)
        if alike is not None:
            alike.add(position, number, access)
        else:
            alike = self._alike[key] = Alike(access, position, number, key)
            self._enter(alike)
        if self._trees:
            self._trees[_kind(access)].put(alike)

    def _enter(self, alike: Alike) -> None:
        where = alike.first.bytes
        terms = where.start_terms
        if terms != where.stop_terms:
            self._classes.setdefault((None, 0), []).append((0, alike.number, alike))
            return
        kind = terms, (where.stop - where.start).bit_length()
        insort(self._classes.setdefault(kind, []), (where.start, alike.number, alike))

    def overlapping(self, access: NodeAccess) -> list[Alike | Bundle]:
        """What an access overlaps."""
        ranges, reach = self._ranges(access.bytes), access.bytes
        if sum(last - first for _, first, last in ranges) > _FEW:
            return self._together(access)
        near = [entry[2] for entries, first, last in ranges for entry in entries[first:last]]
        return [alike for alike in near if reach.overlaps(alike.first.bytes)]

    def _together(self, access: NodeAccess) -> list[Alike | Bundle]:
        if not self._trees:
            self._plant()
        found: list[Alike | Bundle] = []
        symbols, _, is_certain = _kind(access)
        for (others, _, may_be_certain), tree in self._trees.items():
            root = tree.root()
            if root is None:
                continue
            if symbols is not None and symbols == others:
                found += overlapping(root, access.bytes, together=not (is_certain and may_be_certain))
            else:
                found += [alike for alike in root.alike() if access.bytes.overlaps(alike.first.bytes)]
        return found

    def _plant(self) -> None:
        places: dict[_Kind, dict[object, int]] = {}
        for access in self._known:
            places.setdefault(_kind(access), {})[_what(access)] = access.bytes.start
        self._trees = {kind: AccessTree(found) for kind, found in places.items()}
        for alike in self._alike.values():
            self._trees[_kind(alike.first)].put(alike)

    def remove_covered(self, cover: ByteSet) -> None:
        """Forget the accesses all of whose bytes are in a set."""
        for entries, first, last in self._ranges(cover):
            kept = []
            for entry in entries[first:last]:
                if cover.covers(entry[2].first.bytes):
                    self._remove(entry[2])
                else:
                    kept.append(entry)
            if len(kept) != last - first:
                entries[first:last] = kept

    def _remove(self, alike: Alike) -> None:
        del self._alike[alike.key]
        if self._trees:
            self._trees[_kind(alike.first)].remove(alike)

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


def _kind(access: NodeAccess) -> _Kind:
    """A conflict of two accesses is certain only if this says of both that it may be (``is_certain``)."""
    where = access.bytes
    symbols = where.start_terms if where.start_terms == where.stop_terms else None
    return symbols, access.released, access.certain and where.exact


def _what(access: NodeAccess) -> object:
    """Equal for accesses that are alike; through which buffer matters only to what is certain of them.

    A plain tuple, since thousands of them are hashed.
    """
    where = access.bytes
    how = access.buffer if access.certain else "", access.certain, access.always, access.released, access.asynchronous
    ends = where.start, where.stop, where.start_terms, where.stop_terms
    return (*ends, where.run, where.levels, where.exact, *how)


class ReachingAccesses:
    """The accesses of one allocation so far, less those that a later write covered.

    Args:
        known: All accesses of the allocation that there will be.
    """

    def __init__(self, known: Sequence[NodeAccess]) -> None:
        self._reads = _Index([access for access in known if not access.write])
        self._writes = _Index([access for access in known if access.write])
        self._count = 0

    def conflicting(self, access: NodeAccess) -> Reached:
        """What overlaps an access, with a write on one side at least; in the order of first additions.

        Many are kept together, unless a conflict with one of them may be certain.
        """
        if access.bytes.is_empty:
            return ()
        found = self._writes.overlapping(access)
        if access.write:
            found += self._reads.overlapping(access)
        if len(found) > 1:
            found.sort(key=attrgetter("number"))
        return tuple([(part, part.nodes) for part in found])

    def cover(self, write: NodeAccess) -> None:
        """Forget what a write covers."""
        self._reads.remove_covered(write.bytes)
        self._writes.remove_covered(write.bytes)

    def add(self, position: int, access: NodeAccess) -> None:
        """Note an access of the node at some launch position; one without bytes conflicts with nothing."""
        if not access.bytes.is_empty:
            (self._writes if access.write else self._reads).add(position, self._count, access)
            self._count += 1
