"""Two bodies of one kernel: whether they run the same phases, and which orders of phases the new one gives up.

In a body phase p comes before phase q in up to three ways: in one role p stands first (``role``), every thread that
executes p reaches a barrier of its CTA that q follows (``cta``), and the same with a barrier of the whole grid
(``grid``). A way that a body had between two phases that depend on each other has to stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

from forerun.ir.kernel import Barrier, Kernel, Phase

__all__ = ["LostOrder", "lost_orders", "other_body"]


@dataclass(frozen=True, slots=True)
class LostOrder:
    """Two phases that the old body orders in a way in which the new one does not.

    Attributes:
        earlier: The phase that came first.
        later: The phase that came after it.
        ways: How: ``role``, ``cta``, ``grid``.
        local: A local that the later phase takes from the earlier one; empty if there is none.
        in_role: Whether both are of one role, and now stand the other way round.
    """

    earlier: str
    later: str
    ways: tuple[str, ...]
    local: str = ""
    in_role: bool = False


@dataclass(frozen=True, slots=True)
class _Place:
    role: str
    position: int
    cta: int
    grid: int


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
    if before.has_foreign_code:
        return "its machine code is not the compiler's, so it does not follow the order of the phases"
    if [(r.name, r.warps) for r in before.roles] != [(r.name, r.warps) for r in after.roles]:
        return "the roles differ"
    for old, new in zip(before.roles, after.roles, strict=True):
        if sorted(old.phases, key=_name) != sorted(new.phases, key=_name):
            return f"role '{old.name}' runs other phases"
        was, now = ([s.scope for s in role.steps if isinstance(s, Barrier)] for role in (old, new))
        if was.count("grid") != now.count("grid") or not _is_subsequence(was, now):
            return f"role '{old.name}' lost a barrier, or got one of the grid"
    return ""


def _name(phase: Phase) -> str:
    return phase.name


def _is_subsequence(short: list[str], long: list[str]) -> bool:
    rest = iter(long)
    return all(item in rest for item in short)


def lost_orders(before: Kernel, after: Kernel) -> tuple[LostOrder, ...]:
    """The ordered pairs of phases that the new body does not order in the same ways.

    Args:
        before: A kernel with a body.
        after: One of which :func:`other_body` says nothing.
    """
    if before.roles == after.roles:
        return ()
    old, new = _Order(before), _Order(after)
    return tuple(_lost(old, new))


def _lost(old: _Order, new: _Order) -> Iterator[LostOrder]:
    for first, second in permutations(old.phases.values(), 2):
        local = next((name for name in first.gives if name in second.takes), "")
        in_role = "role" in old.ways(first.name, second.name) and "role" in new.ways(second.name, first.name)
        by_step = old.ways(first.name, second.name) - new.ways(first.name, second.name)
        by_end = old.ways_from_end(first, second) - new.ways_from_end(first, second)
        if local and by_step:
            yield LostOrder(first.name, second.name, tuple(sorted(by_step)), local, in_role)
        elif by_end:
            yield LostOrder(first.name, second.name, tuple(sorted(by_end)), in_role=in_role)


class _Order:
    """Where the phases of a body stand, and in what ways they come before each other."""

    def __init__(self, kernel: Kernel) -> None:
        self.phases = {phase.name: phase for phase in kernel.phases}
        self.place: dict[str, _Place] = {}
        for role in kernel.roles or ():
            cta = grid = 0
            for position, step in enumerate(role.steps):
                if isinstance(step, Phase):
                    self.place[step.name] = _Place(role.name, position, cta, grid)
                elif isinstance(step, Barrier):
                    cta += 1
                    grid += step.scope == "grid"

    def ways(self, first: str, second: str) -> set[str]:
        """How the one phase comes before the other."""
        a, b = self.place[first], self.place[second]
        found = {"role"} if a.role == b.role and a.position < b.position else set()
        found |= {"cta"} if a.cta < b.cta else set()
        return found | ({"grid"} if a.grid < b.grid else set())

    def ways_from_end(self, first: Phase, second: Phase) -> set[str]:
        """How the end of the one comes before the other: asynchronous reads end where what they give is taken.

        A phase that writes ends where it stands: its reads come before its writes, and these take part in the order.
        """
        if not first.asynchronous or first.writes:
            return self.ways(first.name, second.name)
        found: set[str] = set()
        for taker in self.phases.values():
            if set(taker.takes) & set(first.gives):
                between = first.name if taker is second else taker.name
                found |= self.ways(between, second.name)
        return found
