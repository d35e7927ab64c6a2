"""Who owns which handle of the driver, and in which order they are given back."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from forerun.runtime.cuda.driver.driver import KINDS, Driver, Handle
from forerun.runtime.cuda.driver.errors import CudaError

__all__ = ["Scope", "seconds_between_events"]


class Scope:
    """The handles of one owner, given back together in the order of :data:`KINDS`, the youngest of a kind first."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self._handles: list[Handle] = []

    def own(self, kind: str, value: Any, destroy: str, *arguments: Any) -> Any:
        """Take over a handle that the driver just made; returns it.

        ``destroy`` is the driver's function that takes it back, called with the arguments, or else with the handle.
        """
        handle = Handle(kind, value, (destroy, *(arguments or (value,))))
        self._handles.append(handle)
        self.driver.handles.add(handle)
        return value

    def release(self, kinds: Collection[str] = KINDS) -> CudaError | None:
        """Give back all handles of some kinds. Everything is tried, even after an error.

        A handle whose destruction fails is tried once more: an error that a call reports may be that of earlier,
        asynchronous work. After a sticky error the driver takes nothing back, and what is left goes with the context.

        Returns:
            The first error of a handle that could not be given back.
        """
        chosen = [
            handle for kind in KINDS if kind in kinds for handle in reversed(self._handles) if handle.kind == kind
        ]
        self._handles = [handle for handle in self._handles if handle.kind not in kinds]
        return self._destroy([handle for handle in chosen if self._try(handle) is not None])

    def release_one(self, value: Any) -> None:
        """Give back one handle before the others.

        Raises:
            CudaError: If the driver does not take it back.
        """
        handle = next(handle for handle in self._handles if handle.value is value)
        self._handles.remove(handle)
        error = None if self._try(handle) is None else self._destroy([handle])
        if error is not None:
            raise error

    def _try(self, handle: Handle) -> CudaError | None:
        try:
            self.driver.call(*handle.destroy)
        except CudaError as error:
            return error
        self.driver.handles.remove(handle)
        return None

    def _destroy(self, handles: list[Handle]) -> CudaError | None:
        """The second attempt."""
        first: CudaError | None = None
        for handle in handles:
            error = self._try(handle)
            if error is not None:
                first = first or error.about(detail=f"{handle} was not given back")
                if error.is_sticky:
                    self.driver.handles.remove(handle)
        return first


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
