"""Runs a schedule in NumPy, in any order that a GPU could: CTAs take turns, stores arrive late, loads may be stale.

The memory model is as weak as PTX's where it matters here. A store to a slot is at first known to its CTA alone; it
arrives in memory when the adversary likes, or at a release of that CTA. A load returns what memory has, or, if the
adversary likes, what it had at the CTA's last acquire. Counters are atomic. So a merge without its counter, release or
acquire reads what was there before, in some order of events.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from forerun.schedules.capacity import Capacity
from forerun.schedules.schedule import Item, Schedule
from forerun.support.diagnostics import InvalidInput

__all__ = [
    "Arrive",
    "Choose",
    "Floats",
    "Load",
    "Operation",
    "Program",
    "Runner",
    "Store",
    "Workspace",
    "every_execution",
    "execute",
    "run_item",
]

Floats = NDArray[np.float32]

Choose = Callable[[int], int]
"""The adversary: from a number of possible events, 2 or more, to the index of the one that happens."""

_Result = TypeVar("_Result")


class Runner(Protocol):
    """What a family computes."""

    @property
    def slot_floats(self) -> int:
        """The numbers of a slot: as many as the largest partial result has."""
        ...

    def compute(self, item: Item) -> Floats:
        """The partial result of an item, one-dimensional; it depends on the item and the inputs alone."""
        ...

    def finish(self, item: Item, parts: Sequence[Floats]) -> None:
        """Merge the partial results of a task in the order given, and store the result.

        Each begins with the numbers that :meth:`compute` returned; a slot may have more.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Store:
    """Store a partial result in a slot."""

    slot: int
    values: Floats


@dataclass(frozen=True, slots=True)
class Arrive:
    """Add 1 to a counter, which becomes 0 again at ``splits`` (``atomicInc``); the event returns what it was before.

    The counter is ready for the next replay with no one to reset it.
    """

    counter: int
    splits: int
    release: bool = True
    acquire: bool = True


@dataclass(frozen=True, slots=True)
class Load:
    """Load the partial result in a slot."""

    slot: int


Operation = Store | Arrive | Load

Program = Callable[[Item, Runner, NDArray[np.int32]], Generator[Operation, Any, None]]
"""What a CTA does for an item: a generator of the operations on shared memory, which are the events of an execution."""


def run_item(item: Item, runner: Runner, counters: NDArray[np.int32]) -> Generator[Operation, Any, None]:
    """Compute an item. If its task is split, the last CTA to arrive merges the splits, in index order; nobody waits."""
    part = runner.compute(item)
    if np.ndim(part) != 1 or np.size(part) > runner.slot_floats:
        shape = f"an array of shape {list(np.shape(part))}" if isinstance(part, np.ndarray) else repr(part)
        message = f"compute() of the runner returned {shape}"
        raise InvalidInput(message, hint=f"a one-dimensional array that fits slot_floats, {runner.slot_floats}")
    if item.slot < 0:
        runner.finish(item, [part])
        return
    first, splits = counters[item.counter].tolist()
    yield Store(item.slot, part)
    before = yield Arrive(item.counter, splits)
    if before == splits - 1:
        parts = []
        for slot in range(first, first + splits):
            parts.append((yield Load(slot)))
        runner.finish(item, parts)


class Workspace:
    """Slots and counters, which stay between replays. Slots are NaN at first, counters 0.

    Args:
        capacity: How many there are.
        slot_floats: The numbers of a slot.
    """

    def __init__(self, capacity: Capacity, slot_floats: int) -> None:
        self.slots: list[Floats] = [np.full(slot_floats, np.nan, np.float32)] * capacity.partials
        self.counters = [0] * capacity.counters


class _Cta:
    """One CTA: its program, the stores that have not arrived, and the slots as they were at its last acquire."""

    def __init__(self, workspace: Workspace, operations: Iterator[Generator[Operation, Any, None]]) -> None:
        self._workspace = workspace
        self._items = operations
        self._current: Generator[Operation, Any, None] | None = None
        self.pending: list[Store] = []
        self._seen = list(workspace.slots)
        self.next: Operation | None = None
        self._advance(None)

    def _advance(self, answer: Any) -> None:
        """Run to the next operation, over the ends of items; ``next`` is ``None`` behind the last one."""
        self.next = None
        while self.next is None:
            try:
                if self._current is None:
                    self._current = next(self._items)
                    self.next = next(self._current)
                else:
                    self.next = self._current.send(answer)
            except StopIteration:
                if self._current is None:
                    return
                self._current = None

    def arrive_in_memory(self, store: Store) -> None:
        """A pending store becomes visible to all."""
        self.pending.remove(store)
        self._workspace.slots[store.slot] = self._over(self._workspace.slots[store.slot], store.values)

    @staticmethod
    def _over(slot: Floats, values: Floats) -> Floats:
        """A slot after a store; what the values are too short for stays."""
        return np.concatenate((values, slot[len(values) :]))

    def step(self, choose: Choose) -> None:
        """The next operation happens."""
        match self.next:
            case Store():
                self.pending.append(self.next)
                self._advance(None)
            case Arrive(counter, splits, release, acquire):
                for store in list(self.pending) if release else []:
                    self.arrive_in_memory(store)
                before = self._workspace.counters[counter]
                self._workspace.counters[counter] = 0 if before >= splits - 1 else before + 1
                if acquire:
                    self._seen = list(self._workspace.slots)
                self._advance(before)
            case Load(slot):
                self._advance(self._load(slot, choose))

    def _load(self, slot: int, choose: Choose) -> Floats:
        own = [store.values for store in self.pending if store.slot == slot]
        if own:
            return self._over(self._workspace.slots[slot], own[-1])
        old, now = self._seen[slot], self._workspace.slots[slot]
        return now if old is now or choose(2) == 0 else old


def execute(
    schedule: Schedule, runner: Runner, workspace: Workspace, choose: Choose, program: Program = run_item
) -> None:
    """Run a schedule; the adversary chooses each event among those that are possible.

    Args:
        schedule: The schedule. With an error status nothing runs.
        runner: What computes the items and takes the results.
        workspace: Slots and counters; the next replay may use it again.
        choose: The adversary.
        program: What a CTA does for an item.
    """

    def operations(cta: int) -> Iterator[Generator[Operation, Any, None]]:
        return (program(item, runner, schedule.counters) for item in schedule.of_cta(cta))

    ctas = [_Cta(workspace, operations(cta)) for cta in range(schedule.capacity.ctas)]
    while True:
        steps = [cta for cta in ctas if cta.next is not None]
        arrivals = [(cta, store) for cta in ctas for store in cta.pending]
        count = len(steps) + len(arrivals)
        if count == 0:
            return
        event = choose(count) if count > 1 else 0
        if event < len(steps):
            steps[event].step(choose)
        else:
            cta, store = arrivals[event - len(steps)]
            cta.arrive_in_memory(store)


def every_execution(run: Callable[[Choose], _Result]) -> Iterator[_Result]:
    """The results of a run under every adversary there is: all choices, in depth-first order.

    ``run`` begins from the same state each time. The number of executions grows fast: it is for a few items.
    """
    fixed: list[int] = []
    while True:
        trail: list[tuple[int, int]] = []

        def choose(count: int, trail: list[tuple[int, int]] = trail, fixed: Sequence[int] = tuple(fixed)) -> int:
            trail.append((fixed[len(trail)] if len(trail) < len(fixed) else 0, count))
            return trail[-1][0]

        yield run(choose)
        while trail and trail[-1][0] + 1 == trail[-1][1]:
            trail.pop()
        if not trail:
            return
        fixed = [choice for choice, _ in trail]
        fixed[-1] += 1
