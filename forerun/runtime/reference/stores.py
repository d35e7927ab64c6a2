"""Store buffers: writes that their node has made and others cannot see yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.runtime.reference.schedule import Action

__all__ = ["Store", "StoreBuffer", "pieces"]

_MAX_WORK: Any = 1000  # NumPy's types know only its named constants


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
