"""How a thread waits for the device: asleep while that takes long, and looking for a bounded time before the end.

A thread that the driver wakes runs late, on virtual machines by some hundred microseconds, and each border between host
and device would cost that. A thread that spins for all of the device's time keeps a processor from the host's work, and
hot. So this one sleeps by the clock, in slices that are short beside what it has waited already, and looks in between.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from forerun.runtime.cuda.driver.driver import Driver

__all__ = ["LOOKING_S", "EventWait", "PatientWait"]

LOOKING_S = 0.001
"""For how long a wait looks at the event without a pause, at most."""

_NOT_READY = 600  # CUDA_ERROR_NOT_READY

_MARGIN_S = LOOKING_S / 2
"""How long before the usual end a sleeping thread begins to look."""

_PAUSE_S = LOOKING_S / 4
"""For how long a thread sleeps at least before it looks once more."""

_SHARE = 4
"""A thread sleeps for a fourth of the time that it has waited at most, so what ends early is noticed soon."""

_REMEMBERED = 4
"""How many waits are remembered. The shortest one counts: beginning to look too early costs less than too late."""


class PatientWait:
    """Waits for a recurring event that takes about the same time each time.

    An event that comes earlier than usual is noticed after a fourth of its own time, or a pause, if that is longer.

    Args:
        is_over: Whether it has happened.
        clock: Seconds.
        sleep: Sleeps for some seconds.
        ended: When it happened, asked after ``is_over`` has said so; by default that is now.
    """

    def __init__(
        self,
        is_over: Callable[[], bool],
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
        ended: Callable[[], float] | None = None,
    ) -> None:
        self._is_over, self._clock, self._sleep, self._ended = is_over, clock, sleep, ended or clock
        self._recent: deque[float] = deque(maxlen=_REMEMBERED)

    @property
    def usual(self) -> float:
        """The seconds that the event usually takes: the shortest of the last waits; 0 before the first one."""
        return min(self._recent, default=0.0)

    def wait(self) -> None:
        """Return when the event has happened; errors of ``is_over`` are raised."""
        if not self._is_over():
            self._sleep_and_look()

    def _sleep_and_look(self) -> None:
        begin = self._clock()
        if self.usual > LOOKING_S and not self._sleep_until(begin, self.usual - _MARGIN_S):
            return
        limit = self._clock() + LOOKING_S
        while not self._is_over():
            if self._clock() >= limit:
                self._sleep(_PAUSE_S)
        self._recent.append(self._ended() - begin)

    def _sleep_until(self, begin: float, end: float) -> bool:
        """Sleep until some seconds after ``begin``; returns false as soon as the event has happened."""
        waited = 0.0
        while end - waited > _PAUSE_S:
            self._sleep(min(end - waited, max(_PAUSE_S, waited / _SHARE)))
            if self._is_over():
                self._recent.append(waited)  # it was not over then
                return False
            waited = self._clock() - begin
        return True


class EventWait(PatientWait):
    """Waits until all work before a CUDA event is complete, each time that the event was recorded.

    :meth:`is_over`, and so :meth:`wait`, raise a :class:`CudaError` if some of it failed.

    Args:
        driver: The driver.
        event: The event.
        clock: Seconds.
        sleep: Sleeps for some seconds.
    """

    def __init__(
        self,
        driver: Driver,
        event: Any,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(self.is_over, clock, sleep)
        self.event = event
        self._driver = driver
        self._query = driver.function("cuEventQuery")

    def is_over(self) -> bool:
        """Whether all work before the event is complete."""
        (error,) = self._query(self.event)
        if error and int(error) != _NOT_READY:
            raise self._driver.failure("cuEventQuery", error)
        return not error
