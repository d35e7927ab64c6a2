"""What the nodes of a graph have done so far, in a replay under an adversarial schedule."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from forerun.runtime.reference.bound import BoundKernel, BoundNode, BoundPhase, Links
from forerun.runtime.reference.stores import StoreBuffer

__all__ = ["MISSING", "LatePhase", "NodeState", "RoleState"]

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
    """An asynchronous phase that has executed, but not read everything.

    Attributes:
        phase: The phase.
        loaded: The scalars that it loaded.
        arguments: What it has read so far, in the places of its reads.
        left: How many reads are left.
    """

    phase: BoundPhase
    loaded: list[int]
    arguments: list[NDArray[Any]]
    left: int
