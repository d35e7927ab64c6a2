"""Plans for many graphs: found by structure, changed or built as the policy decides, within a budget of bytes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any

from forerun.ir.graph import Graph
from forerun.ir.nodes import KernelNode
from forerun.runtime.base import Target, resolve_target
from forerun.runtime.plans.comparison import sketch
from forerun.runtime.plans.difference import Difference
from forerun.runtime.plans.kept import CacheStatistics, Entry, KeptPlans
from forerun.runtime.plans.plan import Plan, require_graph
from forerun.runtime.plans.policy import Choice, Offer, Policy
from forerun.runtime.plans.sources import Sources
from forerun.runtime.plans.updatable import Update, Way
from forerun.support.diagnostics import InvalidInput

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["PlanCache"]

_SAMPLE = 8
"""How many of the nodes that changed tell variants apart."""


class PlanCache:
    """Keeps plans, and gives each graph one: reused as it is, changed, or built.

    All plans share weights, memory of the caller's, and state by name: a state buffer of two graphs is the same state.
    They share constants by what these hold: equal ones lie in the device's memory once, until the last plan is gone.
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
        _require_budget(budget)
        sources = Sources(resolve_target(target), weights, memory)
        self._sources: Sources | None = sources
        self.statistics = CacheStatistics(constants=sources.statistics)
        self._kept = KeptPlans(sources, budget, self.statistics)
        self._policy = policy or Policy(time.perf_counter)
        self._changed = threading.Condition(threading.RLock())
        self._turn = threading.RLock()

    @property
    def budget(self) -> int:
        """Bytes that all plans together may hold. It may be changed; plans go when room is needed."""
        return self._kept.budget

    @budget.setter
    def budget(self, budget: int) -> None:
        _require_budget(budget)
        self._kept.budget = budget

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
            for other in self._prepared(entry):
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
            for other in self._prepared(entry):
                entry.plan.wait_for(other.plan, stream)
            with self._measured(entry, offer):
                entry.plan.launch(stream)

    def synchronize(self) -> None:
        """Wait for all replays that were launched.

        Raises:
            InvalidInput: If a host function failed.
        """
        with self._changed:
            entries = list(self._kept.entries)
        for entry in entries:
            entry.plan.synchronize()

    def read(self, buffer: str) -> NDArray[Any]:
        """A copy of what a state buffer holds now.

        Raises:
            InvalidInput: If no graph so far has such state.
        """
        self._open()
        with self._turn, self._changed:
            found = self._kept.read(buffer)
        if found is not None:
            return found
        raise InvalidInput(f"no graph so far has state '{buffer}'", hint="run one that has")

    def expected_bytes(self, graph: Graph) -> int:
        """About how many bytes a plan of a graph will hold; nothing is built.

        The memory of its buffers, and what executables took so far on this target, for each node.
        """
        return self._kept.expected_bytes(require_graph(graph))

    @property
    def size_bytes(self) -> int:
        """Bytes that all plans hold, and those of state and weights that outlive the plan which brought them."""
        return self._kept.size_bytes

    @property
    def constant_bytes(self) -> int:
        """Those of them that hold constants of the graphs, such as launch parameters that ``fold-params`` folded."""
        return self._kept.constant_bytes

    def close(self) -> None:
        """Wait for what is in flight, and give everything back. Closing twice is fine."""
        with self._turn, self._changed:
            self._sources = None
            self._kept.close()

    @contextmanager
    def _measured(self, entry: Entry, offer: Offer) -> Iterator[None]:
        """Note what a replay takes; launching on a stream includes what it took to load the graph for it."""
        began = self._policy.clock()
        yield
        seconds, entry.loading = self._policy.clock() - began + entry.loading, 0.0
        self._policy.note(Choice.STREAM if entry.is_streamed else Choice.REUSE, offer, seconds)

    # Which plan

    @contextmanager
    def _used(self, graph: Graph) -> Iterator[tuple[Entry, Offer]]:
        """A plan that is the graph, and stays so within the block."""
        with self._changed:
            entry, offer = self._find(graph)
            entry.users += 1
            self._kept.use(entry)
        try:
            yield entry, offer
        finally:
            with self._changed:
                entry.users -= 1
                self._changed.notify_all()

    def _find(self, graph: Graph) -> tuple[Entry, Offer]:
        self._open()
        entry = next((e for e in self._kept.entries if e.plan.graph is graph and not e.is_streamed), None)
        shape = sketch(graph) if entry is None else entry.shape
        near, difference = self._nearest(graph, shape) if entry is None else (entry, Difference())
        if entry is None and near is not None and difference.is_empty:
            entry = near
        changed = 0 if entry is not None else None if near is None else len(difference.nodes)
        can_stream = changed != 0 and self._open().can_stream(graph)
        variant = _variant(graph, difference) if changed else None
        offer = Offer(shape, len(graph), changed, can_stream=can_stream, variant=variant)
        choice = self._policy.choose(offer)
        if choice is Choice.BUILD and near is not None and not self._kept.fits(graph):
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

    def _update(self, entry: Entry, graph: Graph, offer: Offer) -> Update:
        began = self._policy.clock()
        update = entry.plan.update(graph)
        is_new = update.way is Way.INSTANTIATED
        seconds = self._policy.clock() - began
        self._policy.note(Choice.BUILD if is_new else Choice.UPDATE, offer, seconds, None if is_new else offer.changed)
        return update

    def _nearest(self, graph: Graph, shape: tuple[object, ...]) -> tuple[Entry | None, Difference]:
        """The plan that differs least, among those that could become the graph, or are it."""
        best: tuple[Entry | None, Difference] = None, Difference()
        for entry in reversed(self._kept.entries):
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

    def _streamed(self, graph: Graph) -> Entry | None:
        """What is left of the last time that a graph was launched on the stream."""
        return next((e for e in self._kept.entries if e.is_streamed and e.plan.graph is graph), None)

    def _build(self, graph: Graph, shape: tuple[object, ...], offer: Offer, *, streamed: bool) -> Entry:
        sources = self._open()
        from forerun.runtime.plans.proof import Proof  # it brings the checker

        proof = Proof(graph)
        self._kept.make_room(graph, self._changed)
        began = self._policy.clock()
        plan = Plan._of(proof, sources, streamed=streamed)
        seconds = self._policy.clock() - began
        if not streamed:
            self._policy.note(Choice.BUILD, offer, seconds)
        entry = Entry(plan, shape, is_streamed=streamed, loading=seconds if streamed else 0.0)
        self._kept.add(entry)
        return entry

    def _prepared(self, entry: Entry) -> list[Entry]:
        """Bring the state to a plan; returns the plans in flight that must be over before it starts."""
        with self._changed:
            self._kept.bring_state(entry)
            return self._kept.in_its_way(entry)

    def _open(self) -> Sources:
        if self._sources is None:
            raise InvalidInput("the plan cache is closed", hint="make a new one")
        return self._sources

    def __len__(self) -> int:
        return len(self._kept.entries)

    def __enter__(self) -> PlanCache:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _require_budget(budget: object) -> None:
    if not isinstance(budget, int) or isinstance(budget, bool) or budget <= 0:
        raise InvalidInput(f"the budget of a plan cache is a number of bytes, not {budget!r}", hint="budget=1 << 30")


def _variant(graph: Graph, difference: Difference) -> int:
    """What tells a graph apart from others of its shape, as far as a few of the changed nodes show it."""
    found: list[object] = [len(difference.nodes)]
    for change in difference.nodes[:_SAMPLE]:
        node = None if change.is_inner else graph.node(change.path)
        found += [change.position, node.arguments if isinstance(node, KernelNode) else None]
    return hash(tuple(found))
