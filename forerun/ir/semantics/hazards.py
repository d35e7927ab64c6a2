"""Conflicts: pairs of accesses of different nodes to the same bytes, at least one of them a write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, product
from operator import itemgetter

from forerun.ir.analysis import Analysis
from forerun.ir.graph import Graph, Hazard
from forerun.ir.semantics.access import NodeAccess, accesses
from forerun.ir.semantics.alike import Alike, Bundle, Reached
from forerun.ir.semantics.binding import loaded_from
from forerun.ir.semantics.instances import can_meet
from forerun.ir.semantics.reaching_accesses import ReachingAccesses
from forerun.support.collection import collection_paused

__all__ = ["Clash", "Conflict", "Conflicts", "PhaseClashes", "conflicts", "is_certain", "sweep"]


FEW = 16
"""If a node has more accesses than this, equal ones among them are looked for."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two accesses that must keep their order; ``earlier`` comes first in launch order."""

    earlier: NodeAccess
    later: NodeAccess

    @property
    def kind(self) -> str:
        """``RAW``, ``WAR`` or ``WAW``."""
        if not self.later.write:
            return "RAW"
        return "WAW" if self.earlier.write else "WAR"

    @property
    def hazard(self) -> Hazard:
        """The reason that a dependency states."""
        return Hazard(self.kind, self.later.buffer)


def is_certain(graph: Graph, conflict: Conflict) -> bool:
    """Whether both accesses are known to happen, and to touch the same bytes in some run.

    Where bytes depend on scalars that are loaded, two accesses may conflict only because one of them might leave its
    view of the allocation, or for no values that the scalars have. To count that is strict, but no reason to call a
    graph wrong.
    """
    earlier, later = conflict.earlier, conflict.later
    if not all(access.certain and access.bytes.exact for access in (earlier, later)):
        return False
    if earlier.bytes.is_constant and later.bytes.is_constant:
        return earlier.bytes.meets(later.bytes) is True
    views = _view(graph, earlier), _view(graph, later)
    return can_meet(earlier.bytes, views[0], later.bytes, views[1], lambda symbol: _bounds(graph, symbol))


def _view(graph: Graph, access: NodeAccess) -> tuple[int, int]:
    """The bytes that an access cannot leave: those of its buffer, if it goes through one."""
    buffer = graph.buffers.get(access.buffer)
    return (access.bytes.start, access.bytes.stop) if buffer is None else (buffer.offset, buffer.stop)


def _bounds(graph: Graph, symbol: str) -> tuple[int, int]:
    """The values that a loaded scalar may have."""
    buffer = graph.buffers.get(loaded_from(symbol))
    if buffer is None:
        return 0, 0
    return buffer.dtype.range if buffer.bounds is None else buffer.bounds


@dataclass(frozen=True, slots=True)
class Clash:
    """The accesses that one conflicts with directly: earlier ones, those that are alike together."""

    later: NodeAccess
    earlier: Reached

    def conflicts(self, earlier: Iterable[tuple[Alike | Bundle, int]] | None = None) -> Iterator[Conflict]:
        """One by one, in launch order; with some of the earlier accesses, or with all."""
        found = [member for alike, nodes in earlier or self.earlier for member in alike.of(nodes)]
        for _, access in sorted(found, key=itemgetter(0)):
            yield Conflict(access, self.later)


class Conflicts:
    """The direct conflicts of a graph, in launch order of the later node.

    There may be as many as pairs of accesses. So they are kept by what they have in common (``clashes``), which takes
    space and time for each access rather than for each pair; going through all of them one by one does not.
    """

    def __init__(self, clashes: Iterable[Clash]) -> None:
        self.clashes = tuple(clashes)

    def __iter__(self) -> Iterator[Conflict]:
        for clash in self.clashes:
            yield from clash.conflicts()

    def __len__(self) -> int:
        return sum(alike.count(nodes) for clash in self.clashes for alike, nodes in clash.earlier)


def sweep(graph: Graph) -> Iterator[Clash]:
    """Go through the nodes in launch order, comparing each access with those that are still exposed."""
    table = accesses(graph)
    known: dict[str, list[NodeAccess]] = {a.allocation: [] for found in table.values() for a in found if a.write}
    kept = [[access for access in found if access.allocation in known] for found in table.values()]
    for access in chain.from_iterable(kept):
        known[access.allocation].append(access)
    exposed = {name: ReachingAccesses(found) for name, found in known.items()}
    for position, own in enumerate(kept):
        reached: dict[object, Reached] = {}
        for number, access in enumerate(own):
            key = (access.allocation, access.bytes, access.write, access.certain) if len(own) > FEW else number
            if key not in reached:
                reached[key] = exposed[access.allocation].conflicting(access)
            if reached[key]:
                yield Clash(access, reached[key])
        for write in _covering(own):
            exposed[write.allocation].cover(write)
        for access in own:
            exposed[access.allocation].add(position, access)


def _covering(own: Sequence[NodeAccess]) -> Iterable[NodeAccess]:
    """The definite writes of a node; of those of the same bytes, one."""
    found = [access for access in own if access.write and access.definite]
    return found if len(found) <= FEW else {(access.allocation, access.bytes): access for access in found}.values()


def _all_conflicts(graph: Graph) -> Conflicts:
    with collection_paused():
        return Conflicts(sweep(graph))


conflicts = Analysis({"nodes", "kernels", "buffers", "allocations"}, _all_conflicts)
"""The direct conflicts of a graph.

A pair is left out if a definite write between the two covers the bytes of the earlier one: it conflicts with both, and
being before is transitive along such a chain (out(a) = C of a's node; in(b) reaches C of b's node, by H1, or by H4 for
an access after a wait). Where it is not certain which bytes a write stores, or whether it is made (page tables, bodies
of conditionals), it covers nothing: so a read conflicts directly with every write that it may see.
"""


# Within a node


class PhaseClashes:
    """The clashes between phases of one node; phases that touch the same are compared once."""

    def __init__(self, graph: Graph, node: str) -> None:
        self._graph = graph
        self._accesses: dict[str, list[NodeAccess]] = {}
        for access in accesses(graph)[node]:
            self._accesses.setdefault(access.phase, []).append(access)
        alike: dict[object, int] = {}
        self._kind = {
            phase: alike.setdefault(tuple(map(_what, found)), len(alike)) for phase, found in self._accesses.items()
        }
        self._known: dict[tuple[int, int], tuple[str, bool] | None] = {}

    def between(self, earlier: str, later: str) -> tuple[str, bool] | None:
        """Through which buffer the later phase touches what the earlier one does, and whether it certainly does.

        ``None`` if they share no bytes that one of them writes.
        """
        kinds = self._kind.get(earlier, -1), self._kind.get(later, -1)
        if kinds not in self._known:
            self._known[kinds] = self._compare(earlier, later)
        return self._known[kinds]

    def _compare(self, earlier: str, later: str) -> tuple[str, bool] | None:
        pairs = product(self._accesses.get(earlier, ()), self._accesses.get(later, ()))
        clashes = [Conflict(a, b) for a, b in pairs if a.conflicts(b)]
        if not clashes:
            return None
        return clashes[0].later.buffer, any(is_certain(self._graph, clash) for clash in clashes)


def _what(access: NodeAccess) -> object:
    return access.allocation, access.buffer, access.bytes, access.write, access.certain
