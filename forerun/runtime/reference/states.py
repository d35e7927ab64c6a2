"""What the nodes of a graph have done so far, in a replay under an adversarial schedule; also what nobody sees yet."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.runtime.reference.bound import BoundKernel, BoundNode, BoundPhase, Links
from forerun.runtime.reference.schedule import Action

__all__ = ["MISSING", "LatePhase", "NodeState", "RoleState", "Store", "pieces"]

_MAX_WORK: Any = 1000  # NumPy's types know only its named constants

MISSING = object()
"""What is in the slot of a local that has not been given."""


class RoleState(enum.Enum):
    """What a role is doing: it waits (to start, for W, for a local), may execute a phase, is at a barrier, is over."""

    BLOCKED = "blocked"
    READY = "ready"
    ARRIVED = "at a barrier"
    ENDED = "ended"


class NodeState:
    """What one node has done.

    Attributes:
        held_by: How many sources must complete (with H6: or trigger) before S.
        waits_for: How many programmatic sources must complete before W.
        started: Whether S is over.
        triggered: Whether T is over.
        complete: Whether C is over.
        positions: The next step of each role.
        roles: What each role is doing.
        running: How many roles have not ended.
        arrived: How many roles are at the barrier.
        slots: The locals.
        stores: What it has written and others cannot see yet.
        late: How many asynchronous phases have not read everything.
    """

    def __init__(self, order: int, node: BoundNode, links: Links, path: str, h6: bool) -> None:
        self.order = order
        self.node = node
        self.links = links
        self.name = path + node.name
        self.held_by = links.full_sources + (links.programmatic_sources if h6 else 0)
        self.waits_for = links.programmatic_sources
        self.started = self.triggered = self.complete = False
        roles = len(node.roles) if isinstance(node, BoundKernel) else 0
        self.positions = [0] * roles
        self.roles = [RoleState.BLOCKED] * roles
        self.running = roles
        self.arrived = 0
        self.slots: list[Any] = [MISSING] * (node.slots if isinstance(node, BoundKernel) else 0)
        self.stores = StoreBuffer()
        self.late = 0

    def __str__(self) -> str:
        if not self.started:
            return f"{self.name}: not started, {self.held_by} sources hold it back"
        roles = ", ".join(f"{role.value} at step {at}" for role, at in zip(self.roles, self.positions, strict=True))
        return (
            f"{self.name}: started, roles {roles or 'none'}; waits for {self.waits_for} sources; "
            f"{len(self.stores)} stores and {self.late} asynchronous phases are under way"
        )


@dataclass(eq=False, slots=True)
class LatePhase:
    """An asynchronous phase that has executed, but not read everything: how many reads are left.

    What it has read so far is among the arguments, in the places of its reads; scalars were loaded when it executed.
    """

    phase: BoundPhase
    loaded: list[int]
    arguments: list[NDArray[Any]]
    left: int


@dataclass(eq=False, slots=True)
class Store:
    """One write that waits to become visible.

    Attributes:
        action: The event of its becoming visible.
        target: The elements of memory that it will change.
        value: What they will be.
        held_by: How many earlier stores to some of the same bytes must become visible first.
        holds: The later stores that this one holds back.
    """

    action: Action
    target: NDArray[Any]
    value: NDArray[Any]
    held_by: int = 0
    holds: list[Store] = field(default_factory=list)


class StoreBuffer:
    """The stores of one node that are not visible yet, in the order in which they were made."""

    def __init__(self) -> None:
        self._stores: list[Store] = []

    def __len__(self) -> int:
        return len(self._stores)

    def add(self, action: Action, target: NDArray[Any], value: NDArray[Any]) -> Store:
        """Make a store; it is held back by those of the same bytes that were made before."""
        store = Store(action, target, value)
        for earlier in self._stores:
            if _share_bytes(earlier.target, target):
                earlier.holds.append(store)
                store.held_by += 1
        self._stores.append(store)
        return store

    def flush(self, store: Store) -> list[Store]:
        """Make a store visible; returns the stores that nothing holds back any more."""
        store.target[...] = store.value
        self._stores.remove(store)
        for later in store.holds:
            later.held_by -= 1
        return [later for later in store.holds if not later.held_by]

    def pending(self, view: NDArray[Any]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """Targets and values of the stores that may concern a view, in order."""
        return [(s.target, s.value) for s in self._stores if np.may_share_memory(s.target, view)]


def pieces(target: NDArray[Any], value: NDArray[Any]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """The two halves of a store along its first dimension of more than one element; the store has one."""
    axis = next(i for i, extent in enumerate(target.shape) if extent > 1)
    half = target.shape[axis] // 2
    for part in (slice(None, half), slice(half, None)):
        index = (*(slice(None),) * axis, part)
        yield target[index], value[index]


def _share_bytes(first: NDArray[Any], second: NDArray[Any]) -> bool:
    """Whether two views have bytes in common; strictly yes if that is too hard to tell."""
    if not np.may_share_memory(first, second):
        return False
    try:
        return np.shares_memory(first, second, max_work=_MAX_WORK)
    except np.exceptions.TooHardError:
        return True
