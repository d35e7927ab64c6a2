"""How the next event is drawn. A strategy decides among what is possible; what is possible, the machine decides.

Four strategies take turns by seed, because different bugs hide from different ones:

- ``uniform``: any possible event, equally likely;
- ``pct``: random priorities with a few change points. For a bug that needs d events in order it finds it with a
  guaranteed probability (Burckhardt, Kothari, Musuvathi, Nagarakatte: A Randomized Scheduler with Probabilistic
  Guarantees of Finding Bugs, ASPLOS 2010);
- ``eager``: nodes run as early as they may, and nothing becomes visible before it must;
- ``lazy``: later nodes go first and their stores are visible at once, while reads happen as late as they may.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from forerun.runtime.reference.schedule import WHOLE, Action
from forerun.support.diagnostics import InvalidInput

__all__ = ["STRATEGIES", "Recorded", "Strategy", "strategy_for"]


class Strategy(Protocol):
    """Chooses among the possible events of one graph. An event stays possible until it is taken."""

    def add(self, action: Action, order: int) -> None:
        """Tell it that an event has become possible, at a node with this position in the launch order."""
        ...

    def take(self) -> Action:
        """The event that happens now; one of those added and not yet taken."""
        ...

    def splits(self, flush: Action) -> bool:
        """Whether a store that was just made shall become visible in two pieces."""
        ...

    def nested(self, count: int) -> Strategy:
        """The strategy for one run of a body with about ``count`` events, which runs as one event of this graph."""
        ...


class _Uniform:
    def __init__(self, rng: random.Random, count: int) -> None:
        self._rng = rng
        self._ready: list[Action] = []
        self._split = rng.choice((0.0, 0.3, 0.7))

    def add(self, action: Action, order: int) -> None:
        self._ready.append(action)

    def take(self) -> Action:
        ready = self._ready
        chosen = int(self._rng.random() * len(ready))
        ready[chosen], ready[-1] = ready[-1], ready[chosen]
        return ready.pop()

    def splits(self, flush: Action) -> bool:
        return self._rng.random() < self._split

    def nested(self, count: int) -> Strategy:
        return _Uniform(self._rng, count)


class _Pct:
    """The threads are, for each kernel node, its instructions and its store buffer."""

    def __init__(self, rng: random.Random, count: int) -> None:
        self._rng = rng
        self._priority: dict[tuple[str, bool], float] = {}
        self._heap: list[tuple[float, int, Action]] = []
        self._added = self._taken = 0
        # At these steps, whoever would go next falls behind everybody else.
        self._falls = {rng.randrange(max(1, count)): -float(i + 1) for i in range(rng.choice((1, 2, 3, 6)))}
        self._split = rng.choice((0.0, 0.3))

    def add(self, action: Action, order: int) -> None:
        priority = self._priority.setdefault(_thread(action), self._rng.random())
        self._added += 1
        heapq.heappush(self._heap, (-priority, self._added, action))

    def take(self) -> Action:
        fallen = self._falls.get(self._taken)
        self._taken += 1
        if fallen is not None:
            self._priority[_thread(self._next())] = fallen
        self._next()
        return heapq.heappop(self._heap)[2]

    def _next(self) -> Action:
        """The action of highest priority, on top of the heap; entries made before a fall are put in order first."""
        while True:
            rank, number, action = self._heap[0]
            present = -self._priority[_thread(action)]
            if present == rank:
                return action
            heapq.heapreplace(self._heap, (present, number, action))

    def splits(self, flush: Action) -> bool:
        return self._rng.random() < self._split

    def nested(self, count: int) -> Strategy:
        return _Pct(self._rng, count)


class _Ranked:
    """Takes the event of lowest rank: an order over kinds of events, over nodes, and some noise."""

    def __init__(self, rng: random.Random, ranks: Mapping[str, int], *, later_first: bool, split: float) -> None:
        self._rng = rng
        self._ranks = ranks
        self._direction = -1 if later_first else 1
        self._noise = rng.choice((0.05, 0.15, 0.4))
        self._split = split
        self._heap: list[tuple[int, float, int, Action]] = []
        self._added = 0
        self._again: Callable[[], Strategy] = lambda: _Ranked(rng, ranks, later_first=later_first, split=split)

    def add(self, action: Action, order: int) -> None:
        rank = self._ranks[action.kind]
        place: float = self._direction * order
        if self._rng.random() < self._noise:
            rank, place = self._rng.randrange(len(self._ranks)), self._rng.uniform(-order - 1, order + 1)
        self._added += 1
        heapq.heappush(self._heap, (rank, place, self._added, action))

    def take(self) -> Action:
        return heapq.heappop(self._heap)[3]

    def splits(self, flush: Action) -> bool:
        return self._rng.random() < self._split

    def nested(self, count: int) -> Strategy:
        return self._again()


class Recorded:
    """Takes the events of a recorded schedule, those of bodies included."""

    def __init__(self, actions: Sequence[Action]) -> None:
        self._actions = actions
        self._taken = 0
        # In a body that runs again and again, the same store is whole in one run and in pieces in another.
        self._parts: dict[Action, deque[int]] = {}
        for action in actions:
            if action.kind == "flush" and action.part != 2:
                self._parts.setdefault(action._replace(part=WHOLE), deque()).append(action.part)

    @property
    def left(self) -> int:
        """How many events have not been taken."""
        return len(self._actions) - self._taken

    def add(self, action: Action, order: int) -> None:
        """Nothing to do: the recording knows."""

    def take(self) -> Action:
        """The next recorded event.

        Raises:
            InvalidInput: If there is none.
        """
        if not self.left:
            raise InvalidInput(f"the schedule ends after {self._taken} actions, but the graph has not ended")
        self._taken += 1
        return self._actions[self._taken - 1]

    def splits(self, flush: Action) -> bool:
        """Whether the recording has this store in pieces."""
        parts = self._parts.get(flush)
        return bool(parts and parts.popleft() != WHOLE)

    def nested(self, count: int) -> Strategy:
        """The same recording: events of bodies are among its actions."""
        return self


def _eager(rng: random.Random, count: int) -> Strategy:
    ranks = {"end": 0, "phase": 1, "run": 1, "load": 2, "flush": 3}
    return _Ranked(rng, ranks, later_first=rng.random() < 0.5, split=rng.choice((0.0, 0.5)))


def _lazy(rng: random.Random, count: int) -> Strategy:
    ranks = {"end": 0, "flush": 1, "phase": 2, "run": 2, "load": 3}
    return _Ranked(rng, ranks, later_first=rng.random() < 0.8, split=0.0)


STRATEGIES: dict[str, Callable[[random.Random, int], Strategy]] = {
    "uniform": _Uniform,
    "pct": _Pct,
    "eager": _eager,
    "lazy": _lazy,
}
"""Strategies by name; seed ``n`` draws with number ``n`` modulo their count."""


def strategy_for(seed: int, replay: int, count: int) -> tuple[str, Strategy]:
    """The strategy of a seed, with its name.

    Equal seeds give equal schedules, and each replay of a program gets a draw of its own; ``count`` is about how many
    events the graph has.
    """
    name = list(STRATEGIES)[seed % len(STRATEGIES)]
    return name, STRATEGIES[name](random.Random(f"{seed} {replay}"), count)


def _thread(action: Action) -> tuple[str, bool]:
    return action.node, action.kind == "flush"
