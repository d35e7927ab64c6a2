"""The NumPy functions of the phases of litmus tests. The delays do nothing here: schedules play their part."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

__all__ = ["keep", "nothing"]


def keep(values: NDArray[Any]) -> NDArray[Any]:
    """What was read, or what is stored."""
    return values


def nothing() -> None:
    """A delay, or a wait that is never executed."""
