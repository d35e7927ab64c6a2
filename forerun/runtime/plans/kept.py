"""The plans that a cache keeps: how much room they take, which one goes, and the state that goes on."""

from __future__ import annotations

import threading
from collections import Counter, deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from forerun.ir.buffer import Buffer
from forerun.ir.graph import Graph
from forerun.runtime.constants import ConstantStatistics
from forerun.runtime.dtypes import numpy_dtype
from forerun.runtime.plans.plan import Plan, memory_bytes
from forerun.runtime.plans.policy import Choice
from forerun.runtime.plans.sources import Sources
from forerun.support.diagnostics import InvalidInput

__all__ = ["CacheStatistics", "Entry", "KeptPlans"]

_RECENT = 64


@dataclass
class CacheStatistics:
    """What a cache did.

    Attributes:
        choices: How often each choice was made.
        recent: The last updates, with their reasons, oldest first.
        evicted: How many plans gave way to others.
        waited: How often a plan that was in flight had to be waited for.
        constants: What was done with constants of the graphs, such as launch parameters that ``fold-params`` folded.
    """

    choices: Counter[Choice] = field(default_factory=Counter)
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=_RECENT))
    evicted: int = 0
    waited: int = 0
    constants: ConstantStatistics = field(default_factory=ConstantStatistics)


@dataclass(eq=False)
class Entry:
    """A plan in the cache, and how many callers use it now."""

    plan: Plan
    shape: tuple[object, ...]
    users: int = 0
    is_streamed: bool = False
    loading: float = 0.0  # seconds that were not counted yet

    @property
    def is_free(self) -> bool:
        """Whether it may be changed or thrown away."""
        return not self.users and not self.plan.in_flight


class KeptPlans:
    """Plans within a budget of bytes, the least recently used first. The cache's lock guards all of it.

    Attributes:
        budget: Bytes that all plans together may hold.
        entries: The plans, the least recently used first.
    """

    def __init__(self, sources: Sources, budget: int, statistics: CacheStatistics) -> None:
        self.budget = budget
        self.entries: list[Entry] = []
        self._sources = sources
        self._statistics = statistics
        self._holders: dict[str, Entry] = {}
        self._state: dict[str, Any] = {}
        self._retained = 0
        self._executable_bytes = 0.0  # of a node, as far as it was measured

    # Room

    @property
    def size_bytes(self) -> int:
        """Bytes that all plans hold, and those of state and weights that outlive the plan which brought them."""
        own = self._retained + sum(entry.plan.size_bytes for entry in self.entries)
        return own + self._sources.constant_bytes

    @property
    def constant_bytes(self) -> int:
        """Those of them that hold constants of the graphs."""
        return self._sources.constant_bytes

    def expected_bytes(self, graph: Graph) -> int:
        """About how many bytes a plan of a graph will hold."""
        return memory_bytes(graph) + self._sources.missing_bytes(graph) + round(self._executable_bytes * len(graph))

    def use(self, entry: Entry) -> None:
        """Make a plan the most recently used one."""
        self.entries.remove(entry)
        self.entries.append(entry)

    def add(self, entry: Entry) -> None:
        """Keep a new plan, and let others go that there is no room for any more."""
        graph = entry.plan.graph
        if not entry.is_streamed:
            self._executable_bytes = max(0, entry.plan.size_bytes - memory_bytes(graph)) / max(1, len(graph))
        self.entries.append(entry)
        while self.size_bytes > self.budget and self._evict_one(besides=entry):
            pass

    def fits(self, graph: Graph) -> bool:
        """Whether there is room for a plan without waiting."""
        free = sum(entry.plan.size_bytes for entry in self.entries if entry.is_free)
        return self.size_bytes - free + self.expected_bytes(graph) <= self.budget

    def make_room(self, graph: Graph, released: threading.Condition) -> None:
        """Throw plans away until there is room for one of a graph, and wait for those in flight if need be.

        Raises:
            InvalidInput: If the budget is smaller than one plan of the graph.
        """
        expected = self.expected_bytes(graph)
        if expected + self._retained > self.budget:
            kept = f", and {self._retained} are taken by state and weights" if self._retained else ""
            message = f"a plan of graph '{graph.name}' takes about {expected} bytes, the budget is {self.budget}{kept}"
            raise InvalidInput(message, hint="give the cache a larger budget")
        while self.size_bytes + expected > self.budget:
            if self._evict_one():
                continue
            if not self.entries:
                message = f"a plan of graph '{graph.name}' takes about {expected} bytes, the budget is {self.budget}"
                hint = "give the cache a larger budget, or let go of arrays of plans that are gone"
                raise InvalidInput(f"{message}, and {self.size_bytes} are taken by what others use", hint=hint)
            busy = next((entry for entry in self.entries if not entry.users), None)
            self._statistics.waited += 1
            if busy is not None:
                busy.plan.synchronize()
            elif not released.wait(timeout=60):
                raise InvalidInput("all plans are in use, and the budget has no room for another one")

    def _evict_one(self, besides: Entry | None = None) -> bool:
        """Throw the least recently used plan away that nobody uses and that is not in flight."""
        entry = next((entry for entry in self.entries if entry is not besides and entry.is_free), None)
        if entry is None:
            return False
        self.entries.remove(entry)
        sources, graph = self._sources, entry.plan.graph
        for name in [name for name, holder in self._holders.items() if holder is entry]:
            if not sources.is_shared(graph, name):
                self._state[name] = entry.plan.read(name)
            del self._holders[name]
        if sources.has_memory_of(entry.plan._program):
            self._retained += memory_bytes(graph)
        entry.plan.close()
        self._statistics.evicted += 1
        return True

    # State

    def bring_state(self, entry: Entry) -> None:
        """Copy state from the plan that used it last, where the two do not have it in the same memory."""
        sources = self._sources
        for name in sources.state_names(entry.plan.graph):
            holder = self._holders.get(name)
            if holder is entry:
                continue
            if not sources.is_shared(entry.plan.graph, name):
                value = holder.plan.read(name) if holder is not None else self._state.get(name)
                if value is not None and _fits(value, entry.plan.graph.buffers[name]):
                    entry.plan.write(name, value)
            self._holders[name] = entry
            self._state.pop(name, None)

    def in_its_way(self, entry: Entry) -> list[Entry]:
        """The plans in flight that use memory which another one uses, too."""
        sources = self._sources
        names = sources.shared_names(entry.plan.graph)
        if not names:
            return []
        others = [other for other in self.entries if other is not entry and other.plan.in_flight]
        return [other for other in others if names & sources.shared_names(other.plan.graph)]

    def read(self, name: str) -> NDArray[Any] | None:
        """A copy of what a state buffer holds now; ``None`` if no plan so far had it."""
        holder = self._holders.get(name)
        if holder is not None:
            return holder.plan.read(name)
        found: NDArray[Any] | None = self._state.get(name)
        return self._sources.read(name) if found is None else found.copy()

    def close(self) -> None:
        """Wait for what is in flight, and give everything back."""
        entries, self.entries = self.entries, []
        self._holders.clear()
        self._state.clear()
        with ExitStack() as stack:  # all of it, also if something cannot be given back
            stack.callback(self._sources.close)
            for entry in entries:
                stack.callback(entry.plan.close)


def _fits(value: NDArray[Any], buffer: Buffer) -> bool:
    return value.shape == buffer.shape and value.dtype == numpy_dtype(buffer.dtype)
