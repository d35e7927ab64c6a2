"""Everything that a loaded graph holds of the driver, and the order in which it is given back."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from forerun.runtime.constants import HeldConstant
from forerun.runtime.cuda.driver.device import Context, Device
from forerun.runtime.cuda.driver.driver import Driver
from forerun.runtime.cuda.driver.errors import CudaError
from forerun.runtime.cuda.driver.scope import Scope
from forerun.runtime.cuda.driver.waiting import EventWait

__all__ = ["NO_TIMING", "Resources"]

NO_TIMING = 2
"""``CU_EVENT_DISABLE_TIMING``"""

_WORK = ("executable", "graph", "module")
_MEMORY = ("memory", "pinned", "event", "stream")


class Resources:
    """A stream, an event, and whatever else is owned by :attr:`scope`.

    It knows nothing of the program that uses it, so that the program's death can give it back. Memory outlives the
    program as long as others use it: arrays that were handed out.

    Raises:
        CudaError: If the driver fails.
    """

    def __init__(self, driver: Driver, device: Device) -> None:
        self.driver = driver
        self.scope = Scope(driver)
        self.until_idle: list[Any] = []
        """What must live until all work is over: the functions that host nodes call."""
        self.constants: Mapping[str, HeldConstant] = {}
        """Constants that it has in common with other programs, by buffer. It lets go of them when all work is over."""
        self.external_work = False
        """Whether something was launched on a stream of somebody else's."""
        self._waits: dict[str, EventWait] = {}
        self._wait: EventWait | None = None
        self.kept: list[Any] = []
        """What must live as long as the memory: the owners of arrays that are used in place."""
        # Leases end whenever the collector runs, on any thread: lists change in one step, locks could block themselves.
        self._leases: list[None] = []
        self._unclosed: list[None] = [None]
        self._unreleased: list[None] = [None]
        self.stream: Any = None
        self.context = Context(driver, device)
        try:
            with self.context.current():
                # Stream 0 waits for this stream and it for stream 0, so that results of code without streams are seen.
                self.stream = self.scope.own("stream", driver.call("cuStreamCreate", 0), "cuStreamDestroy")
                self.event = self.scope.own("event", driver.call("cuEventCreate", NO_TIMING), "cuEventDestroy")
        except BaseException:
            self.close()
            raise

    def sleep_while_waiting(self, what: str = "") -> None:
        """Let :meth:`synchronize` sleep but for its end. Else the driver decides how to wait, and often spins.

        Args:
            what: The kind of work that is launched next: how long each kind usually takes is remembered apart.

        Raises:
            CudaError: If the driver fails.
        """
        if what not in self._waits:
            event = self.driver.call("cuEventCreate", NO_TIMING)
            self._waits[what] = EventWait(self.driver, self.scope.own("event", event, "cuEventDestroy"))
        self._wait = self._waits[what]

    def synchronize(self) -> None:
        """Wait for all that was launched.

        Raises:
            CudaError: If some of it failed.
        """
        if self.external_work:
            # Streams of others may be gone by now, so that they cannot be asked one by one.
            self.driver.call("cuCtxSynchronize")
        elif self._wait is not None:
            self.driver.call("cuEventRecord", self._wait.event, self.stream)
            self._wait.wait()
        else:
            self.driver.call("cuStreamSynchronize", self.stream)
        self.external_work = False

    def lease(self, user: object) -> None:
        """Keep the memory for as long as an object lives."""
        self.begin_lease()
        weakref.finalize(user, self.end_lease)

    def begin_lease(self) -> None:
        """Keep the memory until :meth:`end_lease`."""
        self._leases.append(None)

    def end_lease(self) -> None:
        """One user less; the last one of a closed program gives the memory back."""
        self._leases.pop()
        if not self._unclosed and not self._leases:
            self._release_memory()

    def close(self) -> CudaError | None:
        """Wait for what is in flight, then give everything back that nobody else uses. Once.

        Returns:
            The first error; what could be given back was, all the same.
        """
        if not _taken(self._unclosed):
            return None
        with self.context.current_if_possible():
            error = self._drain()
            failure = self.scope.release(_WORK)
        self.until_idle.clear()
        self.constants = {}
        rest = None if self._leases else self._release_memory()
        return error or failure or rest

    def _drain(self) -> CudaError | None:
        if self.stream is None:
            return None
        try:
            self.synchronize()
        except CudaError as error:
            return error
        return None

    def _release_memory(self) -> CudaError | None:
        if not _taken(self._unreleased):
            return None
        with self.context.current_if_possible():
            error = self.scope.release(_MEMORY)
            self.kept.clear()
        return error


def _taken(token: list[None]) -> bool:
    """Whether this is the first to take it."""
    try:
        token.pop()
    except IndexError:
        return False
    return True
