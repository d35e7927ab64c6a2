"""Handles of the driver, and the list of those that are out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["KINDS", "Handle", "Handles"]

KINDS = ("executable", "graph", "module", "memory", "pinned", "event", "stream")
"""The kinds of handles, in the order in which they are destroyed: users before what they use."""


@dataclass(frozen=True, slots=True, eq=False)
class Handle:
    """Something that the driver gave out and wants back.

    Attributes:
        kind: One of :data:`KINDS`.
        value: What the driver gave.
        destroy: The driver's function that takes it back, and its arguments.
    """

    kind: str
    value: Any
    destroy: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.kind} {int(self.value):#x}"


class Handles:
    """All handles that are out, of one driver. Tests assert that it is empty in the end."""

    def __init__(self) -> None:
        self._live: dict[int, Handle] = {}

    def live(self) -> tuple[Handle, ...]:
        """What was not given back yet, oldest first."""
        return tuple(self._live.values())

    def add(self, handle: Handle) -> None:
        """Note a new handle."""
        self._live[id(handle)] = handle

    def remove(self, handle: Handle) -> None:
        """Note that a handle was given back."""
        self._live.pop(id(handle), None)
