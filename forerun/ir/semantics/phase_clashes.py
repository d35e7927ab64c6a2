"""Which phases of one node touch the same bytes, one of them writing."""

from __future__ import annotations

from itertools import product

from forerun.ir.graph import Graph
from forerun.ir.semantics.access import NodeAccess, accesses
from forerun.ir.semantics.hazards import Conflict, is_certain

__all__ = ["PhaseClashes"]


class PhaseClashes:
    """The clashes between phases of a node; phases that touch the same are compared once."""

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
