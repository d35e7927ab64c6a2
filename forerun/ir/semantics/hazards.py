"""Conflicts: pairs of accesses of different nodes to the same bytes, at least one of them a write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from forerun.ir.analysis import Analysis
from forerun.ir.graph import Graph, Hazard
from forerun.ir.semantics.access import NodeAccess, accesses
from forerun.ir.semantics.exposed import Exposed

__all__ = ["Conflict", "conflicts", "sweep"]


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

    @property
    def certain(self) -> bool:
        """Whether both accesses are known to happen and to touch exactly the bytes that are compared."""
        return self.earlier.certain and self.later.certain and self.earlier.bytes.exact and self.later.bytes.exact


def sweep(graph: Graph, keep: Callable[[NodeAccess], bool] | None = None) -> Iterator[Conflict]:
    """Go through the nodes in launch order, comparing each access with those that are still exposed.

    Args:
        graph: Any graph whose launch order is meant as the order of execution.
        keep: Restricts the sweep to accesses for which it is true.
    """
    table = accesses(graph)
    written = {access.allocation for found in table.values() for access in found if access.write}
    exposed = {name: Exposed() for name in written}
    for found in table.values():
        own = [a for a in found if a.allocation in written and (keep is None or keep(a))]
        for access in own:
            for other in exposed[access.allocation].conflicting(access):
                yield Conflict(other, access)
        for access in own:
            if access.write:
                exposed[access.allocation].cover(access)
        for access in own:
            exposed[access.allocation].add(access)


conflicts = Analysis({"nodes", "kernels", "buffers", "allocations"}, lambda graph: tuple(sweep(graph)))
"""The direct conflicts of a graph, in launch order of the later node.

A pair is left out if a write between the two covers the bytes of the earlier one: that write conflicts with both, and
being before is transitive along such a chain (out(a) = C of a's node; in(b) reaches C of b's node, by H1, or by H4 for
an access after a wait).
"""
