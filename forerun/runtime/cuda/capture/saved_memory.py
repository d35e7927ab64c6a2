"""Memory of the program that replays may write, copied before, and put back."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

from forerun.captured.graph import MemoryRange
from forerun.runtime.cuda.capture.snapshot import Snapshot
from forerun.runtime.cuda.driver.driver import Driver
from forerun.runtime.cuda.driver.scope import Scope

__all__ = ["SavedMemory"]

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING


class SavedMemory:
    """Within its block the graph may be replayed: what replays write is put back at the end.

    Args:
        driver: The driver, with the graph's context current.
        written: The memory that replays may write.

    Attributes:
        stream: A stream on which the copies are made.
    """

    def __init__(self, driver: Driver, written: Iterable[MemoryRange]) -> None:
        self.driver = driver
        self.scope = Scope(driver)
        driver.call("cuCtxSynchronize")
        self.stream = self.scope.own("stream", driver.call("cuStreamCreate", _NON_BLOCKING), "cuStreamDestroy")
        try:
            self._before = Snapshot(written, self.scope, self.stream)
            driver.call("cuStreamSynchronize", self.stream)
        except BaseException:
            self.scope.release()
            raise

    def restore(self) -> None:
        """Put all back, in the order of :attr:`stream`."""
        self._before.put_back()

    def __enter__(self) -> SavedMemory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.restore()
            self.driver.call("cuStreamSynchronize", self.stream)
        finally:
            failed = self.scope.release()
        if failed is not None and error is None:
            raise failed
