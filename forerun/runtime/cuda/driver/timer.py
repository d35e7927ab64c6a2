"""How long replays take, by the clock of the GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from forerun.runtime.cuda.driver.driver import Driver
from forerun.runtime.cuda.driver.scope import Scope

__all__ = ["seconds_between_events"]


def seconds_between_events(driver: Driver, stream: Any, enqueue: Callable[[], object]) -> float:
    """Enqueue work on a stream between two events, wait for it, and return the seconds between them.

    The resolution is half a microsecond (``cuEventElapsedTime``).

    Raises:
        CudaError: If the driver fails.
    """
    scope = Scope(driver)
    try:
        before, after = (scope.own("event", driver.call("cuEventCreate", 0), "cuEventDestroy") for _ in range(2))
        driver.call("cuEventRecord", before, stream)
        enqueue()
        driver.call("cuEventRecord", after, stream)
        driver.call("cuEventSynchronize", after)
        milliseconds: float = driver.call("cuEventElapsedTime", before, after)
    finally:
        error = scope.release()
    if error is not None:
        raise error
    return milliseconds / 1e3
