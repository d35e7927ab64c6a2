"""Optimized graphs of many captures: found by what they run, changed or made as the policy of plan caches decides."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from forerun.external.optimize import optimize
from forerun.external.optimized import OptimizedGraph
from forerun.runtime.plans.difference import Difference
from forerun.runtime.plans.kept import CacheStatistics
from forerun.runtime.plans.policy import Choice, Offer, Policy
from forerun.runtime.plans.updatable import Update, Way
from forerun.support.diagnostics import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Hashable

    from forerun.captured import CapturedGraph
    from forerun.passes.infra.pipeline import PipelineLike
    from forerun.runtime.cuda.capture.session import LiveCapture

__all__ = ["CaptureCache"]

_SAMPLE = 8
"""How many of the nodes that changed tell variants apart."""


@dataclass(eq=False)
class _Entry:
    optimized: OptimizedGraph
    shape: Hashable

    def is_of(self, source: Any) -> bool:
        """Whether it is a graph's, as far as that is known without reading it. Handles are given out again."""
        live = self.optimized.live
        return live is source or (live.source is source and type(source) is not int and self.optimized.has_source())


class CaptureCache:
    """Replays captured graphs by optimized ones that it keeps: the same, a changed one, or a new one.

    For engines that capture many graphs, again and again. Captures that run the same share an optimized graph. Of one
    that differs in what an update can set (:meth:`OptimizedGraph.update`), the nearest is changed, or another one is
    made: what costs less, as measured here, with the policy of :class:`forerun.PlanCache`. All others are optimized.
    It may be used from any thread.

    Args:
        most: How many optimized graphs are kept; the least recently used one goes.
        policy: Decides between changing and making; by default one that measures here.
        pipeline: As for :func:`forerun.optimize`, like all that follows.
        dump: A folder for what passes do; each optimized graph overwrites that of the one before.
        limit_s: For how many seconds, about, function by function is measured, for each optimized graph.
        fold_params: Leave out small copies from the host.

    Attributes:
        statistics: What was done, and why.

    Raises:
        InvalidInput: If ``most`` is not a positive whole number.
    """

    def __init__(
        self,
        *,
        most: int = 8,
        policy: Policy | None = None,
        pipeline: PipelineLike | None = None,
        dump: str | Path | None = None,
        limit_s: float = 120.0,
        fold_params: bool = False,
    ) -> None:
        if type(most) is not int or most < 1:
            raise InvalidInput(f"a cache keeps a number of captures, not {most!r}", hint="most=8")
        self.statistics = CacheStatistics()
        self._most = most
        self._policy = policy or Policy(time.perf_counter)
        self._options: dict[str, Any] = {
            "pipeline": pipeline, "dump": dump, "limit_s": limit_s, "fold_params": fold_params,
        }  # fmt: skip
        self._entries: list[_Entry] | None = []
        self._turn = threading.RLock()

    @property
    def graphs(self) -> tuple[OptimizedGraph, ...]:
        """The optimized graphs, the least recently used first. Each may become another capture at a later replay."""
        return tuple(entry.optimized for entry in self._entries or ())

    def replay(self, source: Any, stream: Any = None) -> None:
        """Launch what a captured graph does.

        A graph that was replayed before is not read again, unless it was reset, or another one took its place, or it is
        given by a number: what the program changes in it since is not seen.

        Args:
            source: A graph, as :func:`forerun.optimize` takes it.
            stream: A stream of torch, CuPy or cuda.core, or a handle; by default torch's current one, or the default
                stream where torch is not loaded.

        Raises:
            InvalidInput: If the cache is closed, or it is not a graph, or it was reset.
            Refuted: If the captured graph has a race.
            PassFailure: If a pass fails.
            Unsupported: If it has nodes that no clone may have, or its kernels were not seen.
            CudaError: If the driver fails.
        """
        with self._turn:
            entry, offer = self._find(source)
            entries = self._open()
            entries.remove(entry)
            entries.append(entry)
            began = self._policy.clock()
            entry.optimized.replay(stream)
            self._policy.note(Choice.REUSE, offer, self._policy.clock() - began)

    def close(self) -> None:
        """Give back what all optimized graphs hold. Closing twice is fine."""
        with self._turn, ExitStack() as stack:  # all of it, also if something cannot be given back
            entries, self._entries = self._entries, None
            for entry in entries or ():
                stack.callback(entry.optimized.close)

    # Which graph

    def _find(self, source: Any) -> tuple[_Entry, Offer]:
        """An optimized graph that is the captured one."""
        from forerun.runtime.cuda.capture.session import read_graph

        known = next((entry for entry in self._open() if entry.is_of(source)), None)
        if known is not None:
            offer = Offer(known.shape, len(known.optimized.graph), 0)
            self._policy.choose(offer)
            self.statistics.choices[Choice.REUSE] += 1
            return known, offer
        live = read_graph(source)
        shape = _shape(live.graph)
        near, difference = self._nearest(live, shape)
        changed = None if near is None else len(difference.nodes)
        variant = _variant(live.graph, difference) if changed else None
        offer = Offer(shape, len(live.graph.nodes), changed, variant=variant)
        choice = self._policy.choose(offer)
        if near is None or choice is Choice.BUILD:
            entry, told = self._build(live, shape, offer), "optimized"
        else:
            entry, told = near, str(self._update(near, live, offer))
        self.statistics.choices[choice] += 1
        if choice is not Choice.REUSE:
            self.statistics.recent.append(told)
        return entry, offer

    def _nearest(self, live: LiveCapture, shape: Hashable) -> tuple[_Entry | None, Difference]:
        """The optimized graph that differs least, among those that an update can make the captured one."""
        from forerun.runtime.cuda.capture.clone_update import can_be_set
        from forerun.runtime.cuda.capture.comparison import compare_captures

        best: tuple[_Entry | None, Difference] = None, Difference()
        for entry in reversed(self._open()):
            if entry.shape != shape:
                continue
            difference = compare_captures(entry.optimized.live, live)
            if difference.structure or not all(can_be_set(a) for change in difference.nodes for a in change.aspects):
                continue
            if best[0] is None or len(difference.nodes) < len(best[1].nodes):
                best = entry, difference
        return best

    def _update(self, entry: _Entry, live: LiveCapture, offer: Offer) -> Update:
        with self._timed() as seconds:
            update = entry.optimized.update(live)
        if update.way is Way.INSTANTIATED:
            self._policy.note(Choice.BUILD, offer, seconds[0])
        elif offer.changed:
            self._policy.note(Choice.UPDATE, offer, seconds[0], offer.changed)
        return update

    def _build(self, live: LiveCapture, shape: Hashable, offer: Offer) -> _Entry:
        with self._timed() as seconds:
            entry = _Entry(optimize(live, **self._options), shape)
        self._policy.note(Choice.BUILD, offer, seconds[0])
        entries = self._open()
        entries.append(entry)
        while len(entries) > self._most:
            self.statistics.evicted += 1
            entries.pop(0).optimized.close()
        return entry

    @contextmanager
    def _timed(self) -> Iterator[list[float]]:
        """What the block takes, in seconds, is in the list after it."""
        seconds: list[float] = []
        began = self._policy.clock()
        yield seconds
        seconds.append(self._policy.clock() - began)

    def _open(self) -> list[_Entry]:
        if self._entries is None:
            raise InvalidInput("the cache of captures is closed", hint="make a new one")
        return self._entries

    def __len__(self) -> int:
        return len(self._entries or ())

    def __enter__(self) -> CaptureCache:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _shape(graph: CapturedGraph) -> Hashable:
    """Equal for graphs with as many nodes of each kind and edges: others cannot become each other."""
    return tuple(sorted(graph.kinds.items())), len(graph.edges)


def _variant(graph: CapturedGraph, difference: Difference) -> int:
    """What tells a capture apart from others of its shape, as far as a few of the changed nodes show it."""
    changed = [(change.path, graph.nodes[change.position].parameters) for change in difference.nodes[:_SAMPLE]]
    return hash((len(difference.nodes), tuple(changed)))
