"""A graph on a GPU: instantiated once, replayed on streams."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from numpy.typing import ArrayLike, NDArray

from forerun.ir.graph import Graph
from forerun.ir.nodes import KernelNode, is_host_work
from forerun.runtime.base import Program
from forerun.runtime.cuda.driver.driver import require_no_host_node
from forerun.runtime.cuda.driver.errors import CudaError
from forerun.runtime.cuda.driver.scope import seconds_between_events
from forerun.runtime.cuda.driver.streams import stream_handle
from forerun.runtime.cuda.emit.segments import part_of
from forerun.runtime.cuda.guard import ProgramGuard
from forerun.runtime.cuda.loading import Loaded
from forerun.runtime.cuda.measured_splits import MeasuredSplits
from forerun.runtime.cuda.memory.array import DeviceArray
from forerun.runtime.cuda.sass.inspection import Inspection
from forerun.runtime.cuda.streamed import StreamLauncher
from forerun.runtime.cuda.updating import Flight, Updater, require_allocated
from forerun.runtime.plans.difference import Difference
from forerun.runtime.plans.updatable import Way
from forerun.runtime.timeline import Timeline, timeline_of
from forerun.runtime.toolchain import EntryFacts
from forerun.runtime.values import state_array
from forerun.support.diagnostics import Diagnostic, InvalidInput, did_you_mean

__all__ = ["CudaProgram"]


class CudaProgram:
    """A graph on the CUDA target. Made by :meth:`CudaTarget.load`.

    What it holds is given back by :meth:`close`, or when nobody refers to it any more. It may be used from any thread,
    by one at a time.

    Attributes:
        facts: What the toolchain knows of the machine code, by the name of the entry.
        inspection: What the look at the machine code found; ``None`` if nobody looked.
        emit_seconds: What it took to make the CUDA graph.
        instantiate_seconds: What the driver took to instantiate it.
    """

    def __init__(self, graph: Graph, loaded: Loaded, inspection: Inspection | None = None) -> None:
        self.facts: Mapping[str, EntryFacts] = loaded.functions.code.facts
        self.inspection = inspection
        self.emit_seconds = loaded.emit_seconds
        self.instantiate_seconds = loaded.instantiate_seconds
        self._graph = graph
        self._loaded = loaded
        self._resources = resources = loaded.resources
        self._guard = ProgramGuard(resources.context)
        self._in_flight = False
        # What a launch needs, without a look-up more.
        self._executable = loaded.executable
        self._stream = resources.stream
        self._graph_launch: Callable[[Any, Any], tuple[Any]] = resources.driver.function("cuGraphLaunch")
        if loaded.executable is None and loaded.split is None:
            self._graph_launch = StreamLauncher(resources.driver, graph, loaded.emitter, loaded.saved)
        self._seeds = loaded.seeds
        self._timestamps = loaded.timestamps
        self._split = loaded.split
        self._measured = loaded.split if isinstance(loaded.split, MeasuredSplits) else None
        self._saved = loaded.saved
        self._calls = loaded.calls
        self._updater: Updater | None = None
        self._flight: Flight | None = None
        self._is_assigned = False
        self._has_host_kernels = any(isinstance(node, KernelNode) and is_host_work(node) for node in graph)
        self._finalizer = weakref.finalize(self, resources.close)

    @property
    def remarks(self) -> tuple[Diagnostic, ...]:
        """What makes the program slower than meant, as far as its machine code shows."""
        return () if self.inspection is None else self.inspection.remarks

    def run(self, inputs: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
        """Replay the graph once, and wait for it; see :class:`forerun.runtime.base.Program`.

        Inputs on the device (with ``__dlpack__`` or ``__cuda_array_interface__``) are copied there. Inputs in the
        caller's memory (``compile(..., memory=...)``) need not be passed.

        Raises:
            InvalidInput: If an input does not fit, or a host function fails.
            CudaError: If the driver fails, or a kernel.
        """
        with self._working():
            staging = self._loaded.staging
            values = staging.check(inputs)
            if self._in_flight:
                self._wait()
            self._in_flight = True  # also if something fails before the wait
            staging.write(values)
            self.launch()
            staging.read()
            self._wait()
            return staging.outputs()

    def launch(self, stream: Any = None) -> None:
        """Enqueue one replay, and return at once. Inputs and outputs are what the buffers hold.

        Replays of one program never overlap: the driver orders them. What a kernel does wrong is told by the next call
        that waits.

        Args:
            stream: The caller's; see :func:`~forerun.runtime.cuda.driver.streams.stream_handle`. By default the
                program's own.

        Raises:
            InvalidInput: If it is not a stream, or the program is closed.
            CudaError: If the driver refuses.
        """
        if self._guard.refusal is not None:
            self._guard.refuse(self._guard.refusal)
        if stream is None:
            handle = self._stream
        else:
            handle = stream_handle(stream)
            if self._flight is not None:
                self._flight.require_context(handle)
            self._resources.external_work = True
        if self._seeds is not None:
            self._seeds.next(handle)
        if self._timestamps is not None:
            self._timestamps.clear(handle)
            if self._calls.times:
                self._calls.times.clear()
        self._in_flight = True
        if self._split is not None:
            with self._working():
                self._split.launch(handle)
        else:
            require_no_host_node("cuGraphLaunch")
            (error,) = self._graph_launch(self._executable, handle)
            if error:
                self._launch_again(error, handle)
        if self._flight is not None:
            self._flight.note(handle)

    def assign(self, values: Mapping[str, int | float]) -> None:
        """Give named constants other values, for replays that are launched from now on.

        Raises:
            Unsupported: If a node in a body uses one of them.
            InvalidInput: If the program is closed.
            CudaError: If the driver refuses.
        """
        with self._working():
            assign_on_host = self._calls.assignment(values)
            if assign_on_host is not None:
                self._resources.synchronize()  # what was launched before has the values that it was launched with
            self._loaded.constants.assign(values)
            if assign_on_host is not None:
                assign_on_host()
            self._is_assigned = True

    def synchronize(self) -> None:
        """Wait for all replays.

        Raises:
            InvalidInput: If a host function failed.
            CudaError: If a replay failed.
        """
        with self._working():
            self._wait()

    def seconds_per_replay(self, count: int = 1) -> float:
        """Replay the graph ``count`` times, back to back, and return the seconds of one, by the clock of the GPU.

        Raises:
            InvalidInput: If the count is not positive, a host function fails, or the program is closed.
            CudaError: If a replay fails.
        """
        if count < 1:
            raise InvalidInput(f"{count} replays cannot be timed", hint="at least 1")

        def launch_often() -> None:
            for _ in range(count):
                self.launch()

        with self._working():
            self._wait()
            seconds = seconds_between_events(self._resources.driver, self._stream, launch_often)
            self._wait()
            return seconds / count

    def timeline(self) -> Timeline:
        """When the nodes of the last replay did what: kernels, copies, and what ran on the host.

        Raises:
            InvalidInput: If the program notes no times, nothing was replayed yet, or the program is closed.
            CudaError: If a replay failed.
        """
        with self._working():
            if self._timestamps is None:
                raise InvalidInput("the kernels note no times", hint="compile with target='cuda{timeline=true}'")
            self._wait()
            records, copies = self._timestamps.read(), self._timestamps.read_copies()
            offset, error = self._timestamps.clock_offset(self._stream)
            host = {path: (a + offset, b + offset) for path, (a, b) in (self._calls.times or {}).items()}
            return timeline_of(self._graph, records, {**copies, **host}, error if host else 0)

    def emit_into(self, graph: Any, names: Collection[str], after: Sequence[Any]) -> Mapping[str, Any]:
        """Add some of its nodes to somebody's graph, which must not outlive the program.

        Args:
            graph: The ``CUgraph``.
            names: The nodes. Dependencies between them are added, too; those to others are not.
            after: Nodes of that graph that they come after.

        Returns:
            Their handles, by name.

        Raises:
            InvalidInput: If the program is closed.
            CudaError: If the driver refuses a node.
        """
        with self._working():
            return self._loaded.emitter.emit_into(graph, part_of(self._graph, names), after)

    def reset(self) -> None:
        """Set all state to zeros, in the caller's memory too."""
        with self._working():
            self._wait()
            self._loaded.memory.zero_state(self._stream, bound=True)
            self._wait()

    def buffer(self, name: str) -> DeviceArray:
        """The memory of a buffer, for use in place.

        Raises:
            InvalidInput: If there is no such buffer, or the program is closed.
        """
        if self._guard.refusal is not None:
            self._guard.refuse(self._guard.refusal)
        if name not in self._graph.buffers:
            raise InvalidInput(f"no buffer '{name}'", hint=did_you_mean(str(name), self._graph.buffers, sigil="%"))
        memory = self._loaded.memory
        address = memory.address(name)
        held = self._resources.constants.get(name)
        on_host = memory.is_on_host(name)
        return DeviceArray(self._resources, self._graph.buffers[name], address, on_host=on_host, constant=held)

    def read(self, buffer: str) -> NDArray[Any]:
        """A copy of what a buffer of any role holds now; see :class:`forerun.runtime.base.Program`."""
        with self._working():
            self._wait()
            return self.buffer(buffer).numpy()

    def write(self, buffer: str, value: ArrayLike) -> None:
        """Set a state buffer; see :class:`forerun.runtime.base.Program`."""
        with self._working():
            self._wait()
            found = self.buffer(buffer)
            state_array(self._graph.buffers[buffer], value)
            found.assign(value)

    # Plans

    @property
    def size_bytes(self) -> int:
        """Bytes of the program's memory and of the executable; weights that are used in place are not counted."""
        return self._loaded.memory.size_bytes + self._loaded.executable_bytes

    def watch(self) -> None:
        """From now on launches leave an event, and streams of other contexts are refused."""
        self._flight = self._flight or Flight(self._resources)

    def require_memory(self) -> None:
        """Ask the driver whether arrays of the caller's are still allocated; their owners may have freed them by hand.

        Raises:
            InvalidInput: If one was freed.
        """
        if self._flight is None or self._flight.external:
            with self._working():
                require_allocated(self._resources)

    def is_in_flight(self) -> bool:
        """Whether a launch is not over.

        Raises:
            CudaError: If a replay failed.
        """
        if not self._in_flight or self._flight is None:
            return self._in_flight
        with self._working():
            return not self._flight.is_over()

    def wait_for(self, other: Program, stream: Any = None) -> None:
        """Let what is launched on a stream from now on wait for the last launch of another program that is watched."""
        if isinstance(other, CudaProgram) and other._flight is not None and other._in_flight:
            handle = self._stream if stream is None else stream_handle(stream)
            with self._working():
                self._resources.driver.call("cuStreamWaitEvent", handle, other._flight.event, 0)

    def update_in_place(self, graph: Graph, difference: Difference) -> tuple[Way, str]:
        """Become another graph; see :class:`forerun.runtime.plans.UpdatableProgram`.

        Raises:
            InvalidInput: If the function of a host node cannot be found, or the program is closed.
            CudaError: If the driver fails.
        """
        if self._executable is None:
            return Way.INSTANTIATED, "there was no executable"
        if self._has_host_kernels:
            return Way.INSTANTIATED, "kernels of the host are bound when they are loaded"
        if self._is_assigned:
            return Way.INSTANTIATED, "a named parameter was given another value"
        with self._working():
            self._updater = self._updater or Updater(self._graph, self._loaded)
            found = self._updater.update(graph, difference)
            if found[0] is not Way.INSTANTIATED:
                self._graph, self._calls = graph, self._updater.calls
            return found

    def close(self) -> None:
        """Wait for what is in flight, and give everything back but what others still use. Closing twice is fine.

        Raises:
            CudaError: If a replay failed that nobody waited for, or something could not be given back.
        """
        first = self._finalizer.detach() is not None
        poisoned = isinstance(self._guard.refusal, CudaError)
        failure: CudaError | None = None
        if first and self._guard.refusal is None and self._saved is not None:
            try:
                with self._resources.context.current():
                    self._settle()  # the state may be memory of the caller's
            except CudaError as found:
                failure = found
        self._guard.refusal = InvalidInput("the program is closed", hint="load or compile the graph again")
        if first:
            error = self._resources.close() or failure
            # Of a poisoned program nothing else can be expected, and its error was told.
            if error is not None and not poisoned:
                raise error

    def _wait(self) -> None:
        self._settle()
        self._in_flight = False
        if self._measured is not None:
            self._measured.note_end(failed=self._calls.has_failed)
        self._calls.raise_failure()

    def _settle(self) -> None:
        """Wait for all replays; after one in which a host function raised, the state is what it was before it."""
        self._resources.synchronize()
        if self._saved is not None and self._calls.has_failed:
            self._saved.put_back(self._stream)
            self._resources.synchronize()

    def _working(self) -> AbstractContextManager[None]:
        """Makes the context current; remembers errors after which nothing works."""
        return self._guard.working()

    def _launch_again(self, error: Any, handle: Any) -> None:
        """A launch failed: once more if it was only that no context is current on this thread."""
        driver = self._resources.driver
        failure = driver.failure("cuGraphLaunch", error)
        if failure.code == "CUDA_ERROR_INVALID_CONTEXT":
            self._resources.context.set_current()
            (error,) = self._graph_launch(self._executable, handle)
            if not error:
                return
            failure = driver.failure("cuGraphLaunch", error)
        self._guard.note(failure)
        raise failure
