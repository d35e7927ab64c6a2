"""How long a replay takes in the program's own memory, which is put back as it was."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

from forerun.captured.graph import MemoryRange
from forerun.runtime.cuda.capture.saved_memory import SavedMemory
from forerun.runtime.cuda.driver.driver import Driver
from forerun.runtime.cuda.driver.scope import seconds_between_events

__all__ = ["Timing"]

_REPLAYS, _WARM = 8, 2


class Timing:
    """Takes the time of executable graphs. What replays write is copied before, and copied back after.

    Args:
        driver: The driver, with the graph's context current.
        written: The memory that replays may write.
    """

    def __init__(self, driver: Driver, written: Iterable[MemoryRange]) -> None:
        self.driver = driver
        self.memory = SavedMemory(driver, written)

    def by_turns(self, executables: Sequence[Any], turns: int = 3) -> list[float]:
        """The median seconds of a replay of each, in interleaved blocks, each of which begins with memory restored."""
        found: list[list[float]] = [[] for _ in executables]
        for turn in range(turns):
            order = range(len(executables)) if turn % 2 == 0 else reversed(range(len(executables)))
            for number in order:
                found[number].append(self._block(executables[number]))
        return [statistics.median(times) for times in found]

    def _block(self, executable: Any) -> float:
        self.memory.restore()
        stream = self.memory.stream
        for _ in range(_WARM):
            self.driver.call("cuGraphLaunch", executable, stream)

        def replay() -> None:
            for _ in range(_REPLAYS):
                self.driver.call("cuGraphLaunch", executable, stream)

        return seconds_between_events(self.driver, stream, replay) / _REPLAYS

    def __enter__(self) -> Timing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.memory.__exit__(kind, error, trace)
