"""How a thread waits for the device: asleep while that takes long, and looking for a bounded time before the end.

A thread that the driver wakes runs late, on virtual machines by some hundred microseconds, and each border between host
and device would cost that. A thread that spins for all of the device's time keeps a processor from the host's work, and
hot. So this one sleeps by the clock, and looks at the event.
"""

from __future__ import annotations

import time
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
"""For how long it sleeps at once when that was in vain."""


class PatientWait:
    """Waits for a recurring event that takes about the same time each time.

    Args:
        is_over: Whether it has happened.
        clock: Seconds.
        sleep: Sleeps for some seconds.
    """

    def __init__(
        self,
        is_over: Callable[[], bool],
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._is_over, self._clock, self._sleep = is_over, clock, sleep
        self._usual = 0.0
        self._earlier = _MARGIN_S

    def wait(self) -> None:
        """Return when the event has happened; errors of ``is_over`` are raised."""
        if not self._is_over():
            self._sleep_and_look()

    def _sleep_and_look(self) -> None:
        begin = self._clock()
        if self._usual > LOOKING_S:
            self._sleep(self._usual - _MARGIN_S)
            if self._is_over():  # since when is not known, so the next time less is slept, and then still less
                self._usual -= self._earlier
                self._earlier *= 2
                return
        limit = self._clock() + LOOKING_S
        while not self._is_over():
            if self._clock() >= limit:
                self._sleep(_PAUSE_S)
        self._usual, self._earlier = self._clock() - begin, _MARGIN_S


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
