"""What a wrong checker is, and the ways to make one: each patches a seam of ``forerun.ir.semantics``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from forerun.ir.graph import Graph
from forerun.ir.kernel import Role
from forerun.ir.nodes import (
    KernelNode,
)
from forerun.ir.semantics import access as access_module
from forerun.ir.semantics import hazards, races
from forerun.ir.semantics.access import NodeAccess
from forerun.ir.semantics.alike import Alike
from forerun.ir.semantics.hazards import Clash, Conflict, Conflicts
from forerun.ir.semantics.order import EventOrder

__all__ = ["CheckerMutant", "Patch", "accessing", "adjusting", "collector", "meets", "ordering", "roles_of", "sweeping"]

Patch = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class CheckerMutant:
    """A wrong checker: what is wrong with it, and how it is made."""

    name: str
    wrong: str
    patch: Patch

    @contextmanager
    def active(self) -> Iterator[None]:
        """While it is in force, ``check`` is the wrong checker for every graph that is new."""
        with pytest.MonkeyPatch.context() as monkeypatch:
            self.patch(monkeypatch)
            yield


def collector() -> tuple[list[CheckerMutant], Callable[[str, str, Patch], None]]:
    """A list, and what adds to it."""
    found: list[CheckerMutant] = []

    def mutant(name: str, wrong: str, patch: Patch) -> None:
        found.append(CheckerMutant(name, wrong, patch))

    return found, mutant


def ordering(change: Callable[[Graph], Graph]) -> Patch:
    """The event order of another graph."""
    original = EventOrder.__init__

    def init(self: EventOrder, graph: Graph, assumptions: Iterable[str] = ()) -> None:
        original(self, change(graph), assumptions)

    return lambda monkeypatch: monkeypatch.setattr(EventOrder, "__init__", init)


def adjusting(change: Callable[[EventOrder, Graph], None]) -> Patch:
    """The event order with its sets changed."""
    original = EventOrder.__init__

    def init(self: EventOrder, graph: Graph, assumptions: Iterable[str] = ()) -> None:
        original(self, graph, assumptions)
        change(self, graph)

    return lambda monkeypatch: monkeypatch.setattr(EventOrder, "__init__", init)


def accessing(change: Callable[[Graph, NodeAccess], NodeAccess | None]) -> Patch:
    """Each access changed, or left out."""
    original = access_module.accesses.compute

    def compute(graph: Graph) -> Any:
        table = original(graph)
        return {
            name: tuple(new for old in found if (new := change(graph, old)) is not None)
            for name, found in table.items()
        }

    return lambda monkeypatch: monkeypatch.setattr(access_module.accesses, "compute", compute)


def sweeping(
    conflict: Callable[[NodeAccess, NodeAccess], bool] = lambda a, b: meets(a, b),
    kills: Callable[[NodeAccess, NodeAccess], bool] = lambda a, b: a.write and a.bytes.covers(b.bytes),
    near: Callable[[int, int], bool] = lambda i, j: True,
) -> Patch:
    """The conflicts from a plain sweep, with other ideas of what conflicts and what a later access hides."""

    def compute(graph: Graph) -> Conflicts:
        found: list[Conflict] = []
        exposed: list[tuple[int, NodeAccess]] = []
        for j, own in enumerate(access_module.accesses(graph).values()):
            for a in own:
                found += [Conflict(b, a) for i, b in exposed if near(i, j) and conflict(b, a)]
            exposed = [(i, b) for i, b in exposed if not any(a.allocation == b.allocation and kills(a, b) for a in own)]
            exposed += [(j, a) for a in own]
        place = {name: i for i, name in enumerate(graph.nodes)}
        earlier = (Alike(pair.earlier, place[pair.earlier.node], 0) for pair in found)
        return Conflicts(Clash(pair.later, ((a, a.nodes),)) for pair, a in zip(found, earlier, strict=True))

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hazards.conflicts, "compute", compute)
        monkeypatch.setattr(races, "are_all_ordered", lambda graph, order: False)  # which needs no conflicts

    return patch


def meets(a: NodeAccess, b: NodeAccess) -> bool:
    return (a.write or b.write) and a.allocation == b.allocation and a.bytes.overlaps(b.bytes)


def roles_of(graph: Graph, name: str) -> tuple[Role, ...]:
    node = graph.nodes.get(name)
    return graph.kernels[node.kernel].roles or () if isinstance(node, KernelNode) else ()
