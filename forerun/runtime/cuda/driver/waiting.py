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

__all__ = ["LOOKING_S", "PatientWait"]

LOOKING_S = 0.001
"""For how long a wait looks at the event without a pause, at most."""

_NOT_READY = 600  # CUDA_ERROR_NOT_READY

_MARGIN_S = LOOKING_S / 2
"""How long before the usual end a sleeping thread begins to look."""

_PAUSE_S = LOOKING_S / 4
"""For how long it sleeps at once when that was in vain."""


class PatientWait:
    """Waits for an event, each time that it was recorded.

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
        self.event = event
        self._driver, self._clock, self._sleep = driver, clock, sleep
        self._query = driver.function("cuEventQuery")
        self._usual = 0.0
        self._earlier = _MARGIN_S

    def wait(self) -> None:
        """Return when all before the event is complete.

        Raises:
            CudaError: If some of it failed.
        """
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

    def _is_over(self) -> bool:
        (error,) = self._query(self.event)
        if error and int(error) != _NOT_READY:
            raise self._driver.failure("cuEventQuery", error)
        return not error
