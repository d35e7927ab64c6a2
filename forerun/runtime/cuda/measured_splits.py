"""Which way of launching a graph with work for the host is the fastest: found out while the program runs.

All ways give the same bits, so the first replays try each in turn, and the others go the fastest way. Nothing runs that
would not have run: host functions may have effects that nobody can undo.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["ROUNDS", "MeasuredSplits"]

ROUNDS = 6
"""How many replays each way gets. The first one does not count: it is slower."""


class MeasuredSplits:
    """Launches in each of several ways by turns, then in the fastest one: the one whose fastest replay was.

    A replay is measured from its launch to :meth:`note_end`, if nothing was launched in between. Ways change only while
    nothing is in flight, since none of them waits for the host's work of another one.

    Args:
        ways: What launches a replay on a stream, by the name of the way.
        clock: Seconds.
    """

    def __init__(self, ways: Mapping[str, Callable[[Any], object]], clock: Callable[[], float] = time.perf_counter):
        self._ways = dict(ways)
        self._clock = clock
        self._seconds: dict[str, list[float]] = {name: [] for name in ways}
        self._way = next(iter(self._ways))
        self._begin: float | None = None
        self._is_idle = True

    @property
    def chosen(self) -> str:
        """The name of the fastest way; empty while that is not known."""
        if any(len(found) < ROUNDS for found in self._seconds.values()):
            return ""
        return min(self._seconds, key=lambda name: min(self._seconds[name][1:]))

    def launch(self, stream: Any) -> None:
        """Launch one replay.

        Raises:
            CudaError: If the driver fails.
        """
        if self._is_idle:
            self._way = self.chosen or min(self._seconds, key=lambda name: len(self._seconds[name]))
            self._begin, self._is_idle = self._clock(), False
        else:
            self._begin = None
        self._ways[self._way](stream)

    def note_end(self, *, failed: bool = False) -> None:
        """All that was launched is complete, or has ``failed``: then it is not measured."""
        if self._begin is not None and not failed and not self.chosen:
            self._seconds[self._way].append(self._clock() - self._begin)
        self._begin, self._is_idle = None, True
