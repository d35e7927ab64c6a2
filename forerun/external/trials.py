"""Replays of clones in the program's own memory, compared byte by byte with what the program's own graph leaves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import TracebackType
from typing import Any, TypeAlias

from forerun.captured import MemoryRange
from forerun.external.written import written_memory
from forerun.frontends.captured import ImportedGraph
from forerun.ir.graph import Graph
from forerun.runtime.cuda.capture.clone import Clone, CloneForm, Functions, NodeCode, clone_with
from forerun.runtime.cuda.capture.session import LiveCapture
from forerun.runtime.cuda.capture.snapshot import Differences, Snapshot
from forerun.runtime.cuda.driver.errors import CudaError
from forerun.runtime.cuda.driver.scope import Scope
from forerun.support.diagnostics import Unsupported

__all__ = ["Prepare", "Trials"]

Prepare: TypeAlias = Callable[[int], object]
"""Puts the inputs of a step into the program's buffers, given the step's number."""

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING


class Trials:
    """Compares clones with the program's own graph, step by step. Its memory is put back in the end.

    Between the start of a step and the end of the program's own replay, results of earlier kernels must change, or
    nobody sees that one was read too early. So steps have inputs of their own, and all else is as it was at first.

    Args:
        live: The captured graph.
        imported: What it was imported as.
        prepare: Puts a step's inputs in place; it may use any stream.

    Raises:
        Unsupported: If no node writes memory that can be compared.
        CudaError: If the driver fails: if there is no room for three copies of what the graph writes, say.
    """

    def __init__(self, live: LiveCapture, imported: ImportedGraph, prepare: Prepare | None = None) -> None:
        self.live = live
        self.imported = imported
        self.prepare = prepare
        self._driver = live.driver
        self.scope = Scope(live.driver)
        written = list(written_memory(imported))
        if not written:
            raise Unsupported("the graph writes no memory of the device that is known, so nothing can be compared")
        try:
            self.synchronize()
            self.stream = self.scope.own("stream", self._call("cuStreamCreate", _NON_BLOCKING), "cuStreamDestroy")
            self._at_first, self._begin, self._expected = (Snapshot(written, self.scope, self.stream) for _ in range(3))
            self._differences = Differences(self.scope, self.stream)
            self.functions = Functions(self.scope)
            self._own = self.clone(imported.graph, {})
        except BaseException:
            self.scope.release()
            raise

    def _call(self, name: str, *arguments: Any) -> Any:
        return self._driver.call(name, *arguments)

    def synchronize(self) -> None:
        """Wait for all work of the context.

        Raises:
            CudaError: If the driver fails, or what ran before did.
        """
        self._call("cuCtxSynchronize")

    def clone(self, graph: Graph, codes: Mapping[str, NodeCode]) -> Clone:
        """A clone with the edges of a graph, and some code; to be closed before the trials are."""
        form = CloneForm(self.imported.graph, graph, self.imported.names, codes)
        return clone_with(self.live, form, self.functions)

    def start(self, step: int) -> bool:
        """Begin a step: its inputs are put in place, and what the program's own replay leaves is what is expected.

        Returns:
            Whether that replay changes a byte. If not, no result that is read too early can be told from the right one.
        """
        self._at_first.put_back()
        if self.prepare is not None:
            self.synchronize()
            self.prepare(step)
            self.synchronize()
        self._begin.take()
        self.replay(self._own)
        self._expected.take()
        return bool(self._differences.of(self._begin))

    def replay(self, clone: Clone) -> None:
        """Replay a clone from the beginning of the step. The work is enqueued."""
        self._begin.put_back()
        self._call("cuGraphLaunch", clone.executable, self.stream)

    def varying(self, without: Collection[int], replays: int) -> int:
        """How many replays of the program's own nodes, some left out, leave other bytes than the first of them.

        Args:
            without: The numbers of the nodes that are left out.
            replays: How many there are besides the first.
        """
        before = self.imported.graph
        form = CloneForm(before, before, self.imported.names, {}, without=without)
        clone = clone_with(self.live, form, self.functions)
        scope = Scope(self._driver)
        try:
            self.replay(clone)
            first = Snapshot(written_memory(self.imported), scope, self.stream)
            found = 0
            for _ in range(replays):
                self.replay(clone)
                found += bool(self._differences.of(first))
        finally:
            clone.close()
            error = scope.release()
        if error is not None:
            raise error
        return found

    def differences(self, clone: Clone) -> Mapping[MemoryRange, int]:
        """How many bytes a clone's replay leaves in each block that the program's own replay does not."""
        self.replay(clone)
        return self._differences.of(self._expected)

    def close(self) -> None:
        """Put the memory back as it was, and give back what is held."""
        try:
            self._at_first.put_back()
            self._call("cuStreamSynchronize", self.stream)
        finally:
            self._own.close()
            error = self.scope.release()
        if error is not None:
            raise error

    def __enter__(self) -> Trials:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except CudaError:
            # After an error that stays, nothing can be put back, and the first error says why.
            if error is None:
                raise
