"""A graph that is launched split by split: device work on a stream, host work on a thread that sleeps in between.

The caller's thread launches the device's segments as soon as the host's segments before them are done; a thread of the
program waits for events of the device, asleep but for the end of each wait, and does the host's segments. So host and
device work side by side where the graph allows it; where it does not, the caller's thread does both, and hands nothing
over. A host function that raises ends the replay: nothing after it is launched.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from forerun.ir.graph import Graph
from forerun.ir.nodes import HostCallbackNode, KernelNode
from forerun.runtime.cuda.driver.waiting import EventWait
from forerun.runtime.cuda.emit.emitter import Emitter
from forerun.runtime.cuda.emit.hostcalls import HostCalls
from forerun.runtime.cuda.emit.segments import Segment, part_of, segments_of
from forerun.runtime.cuda.memory.resources import NO_TIMING, Resources
from forerun.runtime.cuda.saving import SavedState

__all__ = ["SplitGraph"]


@dataclass(slots=True)
class _Part:
    """A segment, and what it runs: an executable, whose end can be waited for, or calls."""

    segment: Segment
    executable: Any = None
    end: EventWait | None = None
    calls: tuple[Callable[[], None], ...] = ()


class SplitGraph:
    """A graph in parts, on the memory of one program.

    Args:
        resources: What owns the executables.
        graph: A valid graph.
        emitter: Of that graph.
        calls: What the emitter makes host calls of.
        instantiate: Makes an executable of a CUDA graph, which the resources own.
        saved: What is to be copied at the beginning of each replay.
        overlap: Whether host and device work side by side; else each split waits for the one before it.

    Raises:
        InvalidInput: If a function of the host cannot be found.
        Unsupported: If CUDA cannot run some node.
        CudaError: If the driver fails.
    """

    def __init__(
        self,
        resources: Resources,
        graph: Graph,
        emitter: Emitter,
        calls: HostCalls,
        instantiate: Callable[[Any], Any],
        saved: SavedState | None = None,
        *,
        overlap: bool,
    ) -> None:
        self._resources, self._driver, self._calls, self._saved = resources, resources.driver, calls, saved
        self._parts = [
            self._made(graph, segment, emitter, instantiate) for segment in segments_of(graph, apart=overlap)
        ]
        self._end = self._wait()
        self._thread = ThreadPoolExecutor(1, "forerun-host") if overlap else None
        resources.until_idle.append(self)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments, in the order in which they are launched."""
        return tuple(part.segment for part in self._parts)

    def _wait(self) -> EventWait:
        made = self._driver.call("cuEventCreate", NO_TIMING)
        return EventWait(self._driver, self._resources.scope.own("event", made, "cuEventDestroy"))

    def _made(self, graph: Graph, segment: Segment, emitter: Emitter, instantiate: Callable[[Any], Any]) -> _Part:
        if segment.is_host:
            chosen = [graph.nodes[name] for name in segment.nodes]
            work = [emitter.host_work(n, n.name) for n in chosen if isinstance(n, HostCallbackNode | KernelNode)]
            return _Part(segment, calls=tuple(work))
        return _Part(segment, instantiate(emitter.emit_part(part_of(graph, segment.nodes))), self._wait())

    def launch(self, stream: Any) -> None:
        """Do the host's work of one replay, and enqueue the device's; what is enqueued need not be complete.

        Raises:
            CudaError: If the driver fails.
        """
        self._driver.call("cuStreamWaitEvent", stream, self._end.event, 0)
        if self._saved is not None:
            self._saved.save(stream)
        if self._thread is None:
            self._one_by_one(stream)
        else:
            self._side_by_side(stream, self._thread)
        self._driver.call("cuEventRecord", self._end.event, stream)

    def _one_by_one(self, stream: Any) -> None:
        for part in self._parts:
            if self._calls.has_failed:
                return
            if part.segment.is_host:
                self._driver.call("cuStreamSynchronize", stream)
                for call in part.calls:
                    call()
            else:
                self._driver.call("cuGraphLaunch", part.executable, stream)

    def _side_by_side(self, stream: Any, thread: ThreadPoolExecutor) -> None:
        working: dict[int, Future[None]] = {}
        try:
            for number, part in enumerate(self._parts):
                if part.segment.is_host:
                    if self._is_next(number) and all(future.done() for future in working.values()):
                        self._work(part)
                    else:
                        working[number] = thread.submit(self._work, part)
                    continue
                for source in part.segment.sources:
                    if source in working:
                        working[source].result()
                if self._calls.has_failed:
                    return
                self._driver.call("cuGraphLaunch", part.executable, stream)
                if part.end is not None:
                    self._driver.call("cuEventRecord", part.end.event, stream)
        finally:
            for future in working.values():
                future.result()

    def _is_next(self, number: int) -> bool:
        """Whether nothing can be launched before a segment is done."""
        return number + 1 == len(self._parts) or number in self._parts[number + 1].segment.sources

    def _work(self, part: _Part) -> None:
        """Wait for the device's segments before one of the host's, or else for the last replay, and do it."""
        ends = [end for source in part.segment.sources if (end := self._parts[source].end) is not None]
        with self._resources.context.current():
            for end in ends or [self._end]:
                end.wait()
        for call in part.calls:
            call()
