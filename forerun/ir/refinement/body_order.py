"""Two bodies of one kernel: whether they run the same phases, and which orders of phases the new one gives up.

In a body phase p comes before phase q in up to three ways: in one role p stands first (``role``), every thread that
executes p reaches a barrier of its CTA that q follows (``cta``), and the same with a barrier of the whole grid
(``grid``). A way that a body had between two phases that depend on each other has to stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from operator import attrgetter

from forerun.ir.declaration import text_can_follow
from forerun.ir.kernel import Barrier, Kernel, Phase

__all__ = ["LostOrder", "lost_orders", "other_body"]


@dataclass(frozen=True, slots=True)
class LostOrder:
    """Two phases that the old body orders in a way in which the new one does not.

    Attributes:
        ways: How: ``role``, ``cta``, ``grid``.
        local: A local of the earlier phase that the later one uses; empty if there is none.
        in_role: Whether both are of one role, and now stand the other way round.
    """

    earlier: str
    later: str
    ways: tuple[str, ...]
    local: str = ""
    in_role: bool = False


_CTA, _GRID, _ROLE = 1, 2, 4
_NAMES = {_CTA: "cta", _GRID: "grid", _ROLE: "role"}
_WAYS = tuple(tuple(name for way, name in _NAMES.items() if ways & way) for ways in range(8))
"""The names of the ways in a set of them, which is a number; pairs of phases are many."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a phase stands: its role and place there, and the barriers before it."""

    role: str
    position: int
    cta: int
    grid: int


@dataclass(frozen=True, slots=True)
class _Earliest:
    """The first of some phases: in each role, and by barriers. What comes after one of them, comes after these."""

    positions: Mapping[str, int]
    cta: int
    grid: int

    @classmethod
    def of(cls, places: Iterable[_Place]) -> _Earliest | None:
        """Those of some places; ``None`` if there are none."""
        found = list(places)
        if not found:
            return None
        positions: dict[str, int] = {}
        for place in found:
            positions[place.role] = min(positions.get(place.role, place.position), place.position)
        return cls(positions, min(place.cta for place in found), min(place.grid for place in found))

    def before(self, place: _Place) -> int:
        """The ways in which one of the phases comes before a place."""
        position = self.positions.get(place.role, place.position)
        return _CTA * (self.cta < place.cta) | _GRID * (self.grid < place.grid) | _ROLE * (position < place.position)


def other_body(before: Kernel, after: Kernel) -> str:
    """Why the second kernel is not the first one with its phases in another order; empty if it is."""
    if before.parameters != after.parameters:
        return "the parameters differ"
    if before.implementations != after.implementations:
        return "the implementations differ"
    if before.launches != after.launches:
        return "the accepted launches differ"
    if before.roles is None or after.roles is None:
        return "" if before.roles is after.roles else "a black box has no body to compare"
    if before.roles == after.roles:
        return ""
    if before.has_fixed_code or (before.has_foreign_code and not text_can_follow(before.roles, after.roles)):
        return "its machine code is not the compiler's, so it does not follow the order of the phases"
    if [(r.name, r.warps) for r in before.roles] != [(r.name, r.warps) for r in after.roles]:
        return "the roles differ"
    for old, new in zip(before.roles, after.roles, strict=True):
        if sorted(old.phases, key=attrgetter("name")) != sorted(new.phases, key=attrgetter("name")):
            return f"role '{old.name}' runs other phases"
        was, now = ([s.scope for s in role.steps if isinstance(s, Barrier)] for role in (old, new))
        if was.count("grid") != now.count("grid") or not _is_subsequence(was, now):
            return f"role '{old.name}' lost a barrier, or got one of the grid"
    return ""


def _is_subsequence(short: list[str], long: list[str]) -> bool:
    rest = iter(long)
    return all(item in rest for item in short)


def lost_orders(before: Kernel, after: Kernel) -> tuple[LostOrder, ...]:
    """The ordered pairs of phases that the new body does not order in the same ways.

    Before is a kernel with a body, and after one of which :func:`other_body` says nothing.
    """
    if before.roles == after.roles:
        return ()
    return tuple(_lost(_Order(before), _Order(after)))


def _lost(old: _Order, new: _Order) -> Iterator[LostOrder]:
    for first, second in permutations(old.phases.values(), 2):
        by_step = old.ways(first.name, second.name) & ~new.ways(first.name, second.name)
        by_end = by_step
        if not _ends_in_place(first):
            by_end = old.ways_from_end(first, second) & ~new.ways_from_end(first, second)
        if not by_step and not by_end:
            continue
        local = next((name for name in first.defines if name in second.uses), "") if first.defines else ""
        in_role = bool(old.ways(first.name, second.name) & new.ways(second.name, first.name) & _ROLE)
        if local and by_step:
            yield LostOrder(first.name, second.name, _WAYS[by_step], local, in_role)
        elif by_end:
            yield LostOrder(first.name, second.name, _WAYS[by_end], in_role=in_role)


class _Order:
    """Where the phases of a body stand, and in what ways they come before each other."""

    def __init__(self, kernel: Kernel) -> None:
        self.phases = {phase.name: phase for phase in kernel.phases}
        self._place: dict[str, _Place] = {}
        for role in kernel.roles or ():
            cta = grid = 0
            for position, step in enumerate(role.steps):
                if isinstance(step, Phase):
                    self._place[step.name] = _Place(role.name, position, cta, grid)
                elif isinstance(step, Barrier):
                    cta += 1
                    grid += step.scope == "grid"
        takers: dict[str, list[str]] = {}
        for phase in self.phases.values():
            for local in phase.uses:
                takers.setdefault(local, []).append(phase.name)
        self._start = {name: _Earliest.of([place]) for name, place in self._place.items()}
        self._end = {
            phase.name: _Earliest.of(self._place[name] for local in phase.defines for name in takers.get(local, ()))
            for phase in self.phases.values()
            if not _ends_in_place(phase)
        }

    def ways(self, first: str, second: str) -> int:
        """How the one phase comes before the other."""
        start = self._start[first]
        return 0 if start is None else start.before(self._place[second])

    def ways_from_end(self, first: Phase, second: Phase) -> int:
        """How the end of asynchronous reads comes before another phase: they end where what they give is taken."""
        end = self._end[first.name]
        found = 0 if end is None else end.before(self._place[second.name])
        return found | (self.ways(first.name, second.name) if set(first.defines) & set(second.uses) else 0)


def _ends_in_place(phase: Phase) -> bool:
    """Whether a phase is over where it stands. What is asynchronous of a phase that writes, too, are its reads."""
    return not phase.asynchronous or bool(phase.writes)
