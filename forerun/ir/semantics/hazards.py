"""Conflicts: pairs of accesses of different nodes to the same bytes, at least one of them a write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from forerun.ir.analysis import Analysis
from forerun.ir.graph import Graph, Hazard
from forerun.ir.semantics.access import NodeAccess, accesses, is_conditional
from forerun.ir.semantics.binding import loaded_from
from forerun.ir.semantics.exposed import Exposed
from forerun.ir.semantics.instances import can_meet

__all__ = ["Conflict", "conflicts", "is_certain", "sweep"]


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
    if buffer.bounds is not None:
        return buffer.bounds
    bits = 8 * buffer.dtype.itemsize
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if buffer.dtype.is_signed else (0, (1 << bits) - 1)


def sweep(graph: Graph, keep: Callable[[NodeAccess], bool] | None = None) -> Iterator[Conflict]:
    """Go through the nodes in launch order, comparing each access with those that are still exposed.

    Args:
        graph: Any graph whose launch order is meant as the order of execution.
        keep: Restricts the sweep to accesses for which it is true.
    """
    table = accesses(graph)
    written = {access.allocation for found in table.values() for access in found if access.write}
    exposed = {name: Exposed() for name in written}
    for name, found in table.items():
        own = [a for a in found if a.allocation in written and (keep is None or keep(a))]
        for access in own:
            for other in exposed[access.allocation].conflicting(access):
                yield Conflict(other, access)
        for access in () if is_conditional(graph.nodes[name]) else own:
            if access.write:
                exposed[access.allocation].cover(access)
        for access in own:
            exposed[access.allocation].add(access)


conflicts = Analysis({"nodes", "kernels", "buffers", "allocations"}, lambda graph: tuple(sweep(graph)))
"""The direct conflicts of a graph, in launch order of the later node.

A pair is left out if a write between the two covers the bytes of the earlier one: that write conflicts with both, and
being before is transitive along such a chain (out(a) = C of a's node; in(b) reaches C of b's node, by H1, or by H4 for
an access after a wait). A conditional covers nothing, since its bodies may not run: so a read conflicts directly with
every write that it may see.
"""
