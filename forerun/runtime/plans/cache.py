"""Plans for many graphs: found by structure, changed or built as the policy decides, within a budget of bytes."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from forerun.ir.graph import Graph
from forerun.ir.nodes import KernelNode
from forerun.runtime.base import Target, resolve_target
from forerun.runtime.plans.comparison import sketch
from forerun.runtime.plans.difference import Difference
from forerun.runtime.plans.plan import Plan, memory_bytes, require_graph
from forerun.runtime.plans.policy import Choice, Offer, Policy
from forerun.runtime.plans.proof import Proof
from forerun.runtime.plans.sources import Sources
from forerun.runtime.plans.updatable import Update, Way
from forerun.support.diagnostics import InvalidInput

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["CacheStatistics", "PlanCache"]

_RECENT = 64
_SAMPLE = 8
"""How many of the nodes that changed tell variants apart."""


@dataclass
class CacheStatistics:
    """What a cache did.

    Attributes:
        choices: How often each choice was made.
        recent: The last updates, with their reasons, oldest first.
        evicted: How many plans gave way to others.
        waited: How often a plan that was in flight had to be waited for.
    """

    choices: Counter[Choice] = field(default_factory=Counter)
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=_RECENT))
    evicted: int = 0
    waited: int = 0


@dataclass(eq=False)
class _Entry:
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


class PlanCache:
    """Keeps plans, and gives each graph one: reused as it is, changed, or built.

    All plans share weights, memory of the caller's, and state by name: a state buffer of two graphs is the same state.
    What is in flight is never changed and never thrown away; where the budget leaves no room besides, the cache waits.
    It may be used from any thread. Graphs that share state or memory of the caller's run one after the other, also on
    different streams.

    Args:
        target: Where the graphs run: a name with options, or a target.
        weights: A value for every weight of any of the graphs, by name.
        memory: Arrays of the caller's on a GPU, by the names of inputs, outputs and state that are to live there.
        budget: Bytes that all plans together may hold.
        policy: Decides between changing and building; by default one that measures here.

    Attributes:
        statistics: What was done, and why.

    Raises:
        InvalidInput: If an option is wrong.

    Example:
        >>> import forerun
        >>> def twice(count):
        ...     builder = forerun.GraphBuilder("twice")
        ...     x, y = builder.input("x", "i32", count), builder.output("y", "i32", count)
        ...     _ = builder.launch(forerun.KERNELS["add_i32"], a=x, b=x, y=y)
        ...     return builder.build()
        >>> with forerun.PlanCache(budget=1 << 20) as cache:
        ...     for count in (1, 2, 1, 2):
        ...         _ = cache.run(twice(count), {"x": [1] * count})
        ...     print(len(cache), dict(cache.statistics.choices))
        2 {<Choice.BUILD: 'build'>: 2, <Choice.REUSE: 'reuse'>: 2}
    """

    def __init__(
        self,
        target: str | Target = "reference",
        *,
        weights: Mapping[str, ArrayLike] | None = None,
        memory: Mapping[str, Any] | None = None,
        budget: int,
        policy: Policy | None = None,
    ) -> None:
        if not isinstance(budget, int) or budget <= 0:
            raise InvalidInput(
                f"the budget of a plan cache is a number of bytes, not {budget!r}", hint="budget=1 << 30"
            )
        self.budget = budget
        self.statistics = CacheStatistics()
        self._sources: Sources | None = Sources(resolve_target(target), weights, memory)
        self._policy = policy or Policy(time.perf_counter)
        self._changed = threading.Condition(threading.RLock())
        self._turn = threading.RLock()
        self._entries: list[_Entry] = []  # the least recently used first
        self._holders: dict[str, _Entry] = {}
        self._state: dict[str, Any] = {}
        self._retained = 0
        self._executable_bytes = 0.0  # of a node, as far as it was measured

    # Use

    def run(self, graph: Graph, inputs: Mapping[str, ArrayLike] | None = None) -> dict[str, NDArray[Any]]:
        """Replay a graph once, and return its outputs; as :meth:`forerun.Executable.run`.

        Raises:
            InvalidInput: If the graph is not valid, an input does not fit, the cache is closed, or the budget is
                smaller than one plan of the graph.
            Refuted: If the graph has a race.
            Unsupported: If the target cannot run some node, or the graph cannot be proved.
        """
        sources, graph = self._open(), require_graph(graph)
        # Graphs without anything in common may run at the same time.
        with self._turn if sources.shared_names(graph) else nullcontext(), self._used(graph) as (entry, offer):
            self._bring_state(entry)
            for other in self._in_its_way(entry):
                other.plan.synchronize()
            with self._measured(entry, offer):
                return entry.plan.run(inputs)

    def launch(self, graph: Graph, stream: Any = None) -> None:
        """Enqueue one replay of a graph on a GPU, and return at once; as :meth:`forerun.Executable.launch`.

        Work of other plans that shares state or memory of the caller's, on whatever stream, is over before it starts.

        Raises:
            InvalidInput: As :meth:`run` does, and if it is not a stream, or one of another context.
            Refuted: If the graph has a race.
            Unsupported: If the target is not a GPU, cannot run some node, or the graph cannot be proved.
        """
        with self._turn, self._used(require_graph(graph)) as (entry, offer):
            self._bring_state(entry)
            for other in self._in_its_way(entry):
                entry.plan.wait_for(other.plan, stream)
            with self._measured(entry, offer):
                entry.plan.launch(stream)

    def synchronize(self) -> None:
        """Wait for all replays that were launched.

        Raises:
            InvalidInput: If a host function failed.
        """
        with self._changed:
            entries = list(self._entries)
        for entry in entries:
            entry.plan.synchronize()

    def read(self, buffer: str) -> NDArray[Any]:
        """A copy of what a state buffer holds now.

        Raises:
            InvalidInput: If no graph so far has such state.
        """
        self._open()
        with self._turn, self._changed:
            holder = self._holders.get(buffer)
            if holder is not None:
                return holder.plan.read(buffer)
            found: NDArray[Any] | None = self._state.get(buffer)
            found = self._open().read(buffer) if found is None else found.copy()
            if found is not None:
                return found
        raise InvalidInput(f"no graph so far has state '{buffer}'", hint="run one that has")

    def expected_bytes(self, graph: Graph) -> int:
        """About how many bytes a plan of a graph will hold; nothing is built.

        The memory of its buffers, and what executables took so far on this target, for each node.
        """
        return memory_bytes(graph) + round(self._executable_bytes * len(graph))

    @property
    def size_bytes(self) -> int:
        """Bytes that all plans hold, and those of state and weights that outlive the plan which brought them."""
        return self._retained + sum(entry.plan.size_bytes for entry in self._entries)

    def close(self) -> None:
        """Wait for what is in flight, and give everything back. Closing twice is fine."""
        with self._turn, self._changed:
            sources, self._sources = self._sources, None
            entries, self._entries = self._entries, []
            self._holders.clear()
            for entry in reversed(entries):
                entry.plan.close()
            if sources is not None:
                sources.close()

    @contextmanager
    def _measured(self, entry: _Entry, offer: Offer) -> Iterator[None]:
        """Note what a replay takes; launching on a stream includes what it took to load the graph for it."""
        began = self._policy.clock()
        yield
        seconds, entry.loading = self._policy.clock() - began + entry.loading, 0.0
        self._policy.note(Choice.STREAM if entry.is_streamed else Choice.REUSE, offer, seconds)

    # Which plan

    @contextmanager
    def _used(self, graph: Graph) -> Iterator[tuple[_Entry, Offer]]:
        """A plan that is the graph, and stays so within the block."""
        with self._changed:
            entry, offer = self._find(graph)
            entry.users += 1
            self._entries.remove(entry)
            self._entries.append(entry)
        try:
            yield entry, offer
        finally:
            with self._changed:
                entry.users -= 1
                self._changed.notify_all()

    def _find(self, graph: Graph) -> tuple[_Entry, Offer]:
        self._open()
        entry = next((e for e in self._entries if e.plan.graph is graph and not e.is_streamed), None)
        shape = sketch(graph) if entry is None else entry.shape
        near, difference = self._nearest(graph, shape) if entry is None else (entry, Difference())
        if entry is None and near is not None and difference.is_empty:
            entry = near
        changed = 0 if entry is not None else None if near is None else len(difference.nodes)
        can_stream = changed != 0 and self._open().can_stream(graph)
        variant = _variant(graph, difference) if changed else None
        offer = Offer(shape, len(graph), changed, can_stream=can_stream, variant=variant)
        choice = self._policy.choose(offer)
        if choice is Choice.BUILD and near is not None and not self._fits(graph):
            choice = Choice.UPDATE
        if choice is Choice.REUSE and entry is not None:
            update = entry.plan.update(graph)
        elif choice is Choice.UPDATE and near is not None:
            entry = near
            update = self._update(entry, graph, offer)
        else:
            streamed = choice is Choice.STREAM
            entry = self._streamed(graph) if streamed else None
            entry = entry or self._build(graph, shape, offer, streamed=streamed)
            update = entry.plan.last
        self._note(choice, graph, update)
        return entry, offer

    def _update(self, entry: _Entry, graph: Graph, offer: Offer) -> Update:
        began = self._policy.clock()
        update = entry.plan.update(graph)
        is_new = update.way is Way.INSTANTIATED
        seconds = self._policy.clock() - began
        self._policy.note(Choice.BUILD if is_new else Choice.UPDATE, offer, seconds, None if is_new else offer.changed)
        return update

    def _nearest(self, graph: Graph, shape: tuple[object, ...]) -> tuple[_Entry | None, Difference]:
        """The plan that differs least, among those that could become the graph, or are it."""
        best: tuple[_Entry | None, Difference] = None, Difference()
        for entry in reversed(self._entries):
            if entry.shape != shape or entry.is_streamed:
                continue
            difference = entry.plan.difference_from(graph)
            if difference.is_empty:
                return entry, difference
            if difference.structure or difference.memory or not entry.is_free:
                continue
            if best[0] is None or len(difference.nodes) < len(best[1].nodes):
                best = entry, difference
        return best

    def _note(self, choice: Choice, graph: Graph, update: Update) -> None:
        self.statistics.choices[choice] += 1
        if choice is not Choice.REUSE:
            self.statistics.recent.append(f"{graph.name}: {update}")

    # Room

    def _streamed(self, graph: Graph) -> _Entry | None:
        """What is left of the last time that a graph was launched on the stream."""
        return next((e for e in self._entries if e.is_streamed and e.plan.graph is graph), None)

    def _build(self, graph: Graph, shape: tuple[object, ...], offer: Offer, *, streamed: bool) -> _Entry:
        sources = self._open()
        proof = Proof(graph)
        self._make_room(graph)
        began = self._policy.clock()
        plan = Plan._of(proof, sources, streamed=streamed)
        seconds = self._policy.clock() - began
        if not streamed:
            self._policy.note(Choice.BUILD, offer, seconds)
            self._executable_bytes = max(0, plan.size_bytes - memory_bytes(graph)) / max(1, len(graph))
        entry = _Entry(plan, shape, is_streamed=streamed, loading=seconds if streamed else 0.0)
        self._entries.append(entry)
        while self.size_bytes > self.budget and self._evict_one(besides=entry):
            pass
        return entry

    def _fits(self, graph: Graph) -> bool:
        """Whether there is room for a plan without waiting."""
        free = sum(entry.plan.size_bytes for entry in self._entries if entry.is_free)
        return self.size_bytes - free + self.expected_bytes(graph) <= self.budget

    def _make_room(self, graph: Graph) -> None:
        expected = self.expected_bytes(graph)
        if expected + self._retained > self.budget:
            kept = f", and {self._retained} are taken by state and weights" if self._retained else ""
            message = f"a plan of graph '{graph.name}' takes about {expected} bytes, the budget is {self.budget}{kept}"
            raise InvalidInput(message, hint="give the cache a larger budget")
        while self.size_bytes + expected > self.budget:
            if self._evict_one():
                continue
            busy = next((entry for entry in self._entries if not entry.users), None)
            self.statistics.waited += 1
            if busy is not None:
                busy.plan.synchronize()
            elif not self._changed.wait(timeout=60):
                raise InvalidInput("all plans are in use, and the budget has no room for another one")

    def _evict_one(self, besides: _Entry | None = None) -> bool:
        """Throw the least recently used plan away that nobody uses and that is not in flight."""
        entry = next((entry for entry in self._entries if entry is not besides and entry.is_free), None)
        if entry is None:
            return False
        self._entries.remove(entry)
        sources, graph = self._open(), entry.plan.graph
        for name in [name for name, holder in self._holders.items() if holder is entry]:
            if not sources.is_shared(graph, name):
                self._state[name] = entry.plan.read(name)
            del self._holders[name]
        if sources.has_memory_of(entry.plan._program):
            self._retained += memory_bytes(graph)
        entry.plan.close()
        self.statistics.evicted += 1
        return True

    # State

    def _bring_state(self, entry: _Entry) -> None:
        """Copy state from the plan that used it last, where the two do not have it in the same memory."""
        sources = self._open()
        for name in sources.state_names(entry.plan.graph):
            holder = self._holders.get(name)
            if holder is entry:
                continue
            if not sources.is_shared(entry.plan.graph, name):
                value = holder.plan.read(name) if holder is not None else self._state.pop(name, None)
                if value is not None and value.shape == entry.plan.graph.buffers[name].shape:
                    entry.plan.write(name, value)
            self._holders[name] = entry

    def _in_its_way(self, entry: _Entry) -> list[_Entry]:
        """The plans in flight that use memory which another one uses, too."""
        sources = self._open()
        names = sources.shared_names(entry.plan.graph)
        with self._changed:
            others = [other for other in self._entries if other is not entry and other.plan.in_flight]
        return [other for other in others if names & sources.shared_names(other.plan.graph)]

    def _open(self) -> Sources:
        if self._sources is None:
            raise InvalidInput("the plan cache is closed", hint="make a new one")
        return self._sources

    def __len__(self) -> int:
        return len(self._entries)

    def __enter__(self) -> PlanCache:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _variant(graph: Graph, difference: Difference) -> int:
    """What tells a graph apart from others of its shape, as far as a few of the changed nodes show it."""
    found: list[object] = [len(difference.nodes)]
    for change in difference.nodes[:_SAMPLE]:
        node = None if change.is_inner else graph.node(change.path)
        found += [change.position, node.arguments if isinstance(node, KernelNode) else None]
    return hash(tuple(found))
