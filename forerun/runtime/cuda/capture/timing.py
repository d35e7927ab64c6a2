"""How long a replay takes in the program's own memory, which is put back as it was."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from forerun.captured.graph import MemoryRange
from forerun.runtime.cuda.capture.snapshot import Snapshot
from forerun.runtime.cuda.driver.driver import Driver
from forerun.runtime.cuda.driver.scope import Scope, seconds_between_events

__all__ = ["Timing"]

_REPLAYS, _WARM, _BLOCKS = 8, 2, 3
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING


class Timing:
    """Takes the time of executable graphs. What replays write is copied before, and copied back after.

    Args:
        driver: The driver, with the graph's context current.
        written: The memory that replays may write.
    """

    def __init__(self, driver: Driver, written: Iterable[MemoryRange]) -> None:
        self.driver = driver
        self.scope = Scope(driver)
        driver.call("cuCtxSynchronize")
        self._stream = self.scope.own("stream", driver.call("cuStreamCreate", _NON_BLOCKING), "cuStreamDestroy")
        try:
            self._before = Snapshot(written, self.scope, self._stream)
            driver.call("cuStreamSynchronize", self._stream)
        except BaseException:
            self.scope.release()
            raise

    def seconds(self, executable: Any) -> float:
        """The median time of a replay, in blocks that each begin with memory as it was."""
        return statistics.median(self._block(executable) for _ in range(_BLOCKS))

    def _block(self, executable: Any) -> float:
        self._before.put_back()
        for _ in range(_WARM):
            self.driver.call("cuGraphLaunch", executable, self._stream)

        def replay() -> None:
            for _ in range(_REPLAYS):
                self.driver.call("cuGraphLaunch", executable, self._stream)

        return seconds_between_events(self.driver, self._stream, replay) / _REPLAYS

    def __enter__(self) -> Timing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._before.put_back()
            self.driver.call("cuStreamSynchronize", self._stream)
        finally:
            failed = self.scope.release()
        if failed is not None and error is None:
            raise failed
