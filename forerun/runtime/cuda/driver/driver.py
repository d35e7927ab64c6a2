"""The CUDA driver: every call goes through here, is checked, and fails with a :class:`CudaError`."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from forerun.runtime.cuda.driver.errors import NOT_PERMITTED, CudaError
from forerun.support.diagnostics import Unsupported

__all__ = ["KINDS", "Driver", "Handle", "Handles", "driver", "host_node", "require_no_host_node", "use_driver"]

KINDS = ("executable", "graph", "module", "memory", "pinned", "event", "stream")
"""The kinds of handles, in the order in which they are destroyed: users before what they use."""


@dataclass(frozen=True, slots=True, eq=False)
class Handle:
    """Something that the driver gave out and wants back: by which of its functions, with which arguments."""

    kind: str
    value: Any
    destroy: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.kind} {int(self.value):#x}"


class Handles:
    """All handles that are out, of one driver. Tests assert that it is empty in the end."""

    def __init__(self) -> None:
        self._live: dict[int, Handle] = {}

    def live(self) -> tuple[Handle, ...]:
        """What was not given back yet, oldest first."""
        return tuple(self._live.values())

    def add(self, handle: Handle) -> None:
        """Note a new handle."""
        self._live[id(handle)] = handle

    def remove(self, handle: Handle) -> None:
        """Note that a handle was given back."""
        self._live.pop(id(handle), None)


class _Thread(threading.local):
    """The host node whose function a thread runs, if the driver called that."""

    host_node = ""


_thread = _Thread()


@contextmanager
def host_node(path: str) -> Iterator[None]:
    """Within the block, on this thread, calls of the driver are refused, as the driver refuses them in host nodes.

    Source: CUDA Driver API, ``cuLaunchHostFunc``: "The host function must not make any CUDA API calls. Attempting to
    use a CUDA API may result in CUDA_ERROR_NOT_PERMITTED, but this is not required"; otherwise it may block for ever.
    """
    before, _thread.host_node = _thread.host_node, path
    try:
        yield
    finally:
        _thread.host_node = before


def require_no_host_node(function: str) -> None:
    """Refuse a call of the driver's function on a thread that runs the function of a host node.

    Raises:
        CudaError: If this thread does.
    """
    if _thread.host_node:
        raise CudaError(function, NOT_PERMITTED, node=_thread.host_node)


class Driver:
    """Calls of ``cuda.bindings.driver``, or of something with the same functions: tests put a fake in its place.

    ``handles`` are those that are out.
    """

    def __init__(self, api: Any) -> None:
        self.api = api
        self.handles = Handles()
        self._contexts: dict[int, Any] = {}
        # At the end of the process this runs after the programs' own, which are younger.
        self._finalizer = weakref.finalize(self, _release_contexts, api, self._contexts)

    def function(self, name: str) -> Callable[..., Any]:
        """The unchecked function: it returns ``(error, *values)``. For loops; :meth:`failure` tells of errors."""
        found: Callable[..., Any] = getattr(self.api, name)
        return found

    def call(self, function: str, *arguments: Any) -> Any:
        """Call the driver.

        Returns:
            Nothing, a value, or a tuple of values: what the function returns besides the error.

        Raises:
            CudaError: If the driver reports an error, or would not permit the call.
        """
        if _thread.host_node:
            require_no_host_node(function)
        error, *values = getattr(self.api, function)(*arguments)
        if error:
            raise self.failure(function, error)
        if not values:
            return None
        return values[0] if len(values) == 1 else tuple(values)

    def name(self, device: Any) -> str:
        """The product's name.

        Raises:
            CudaError: If the driver fails.
        """
        name: bytes = self.call("cuDeviceGetName", 128, device)
        return name.split(b"\0")[0].decode()

    def attribute(self, device: Any, name: str) -> int:
        """An attribute of a device, such as ``MULTIPROCESSOR_COUNT``.

        Raises:
            CudaError: If the driver fails.
        """
        kind = getattr(self.api.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(self.call("cuDeviceGetAttribute", kind, device))

    def primary_context(self, device: Any) -> Any:
        """The primary context of a device. It is kept for later programs, since making another one takes long.

        Raises:
            CudaError: If the driver fails.
        """
        number = int(device)
        if number not in self._contexts:
            self._contexts[number] = self.call("cuDevicePrimaryCtxRetain", device)
        return self._contexts[number]

    def release_contexts(self) -> None:
        """Give the contexts back, as is done when the process ends. Nothing that was loaded may be in use."""
        _release_contexts(self.api, self._contexts)

    def failure(self, function: str, error: Any, *, node: str = "", kernel: str = "", detail: str = "") -> CudaError:
        """What a returned error means."""
        code = getattr(error, "name", f"error {int(error)}")
        return CudaError(function, code, self._text(error), node=node, kernel=kernel, detail=detail)

    def _text(self, error: Any) -> str:
        failed, text = self.api.cuGetErrorString(error)
        if failed or not text:
            return ""
        return text.decode() if isinstance(text, bytes) else str(text)


def _release_contexts(api: Any, contexts: dict[int, Any]) -> None:
    """Ignores errors: nothing is left to be done about them."""
    while contexts:
        device, context = contexts.popitem()
        error, *current = api.cuCtxGetCurrent()
        if not error and int(current[0]) == int(context):
            api.cuCtxSetCurrent(0)
        api.cuDevicePrimaryCtxRelease(device)


_current: Driver | None = None


def driver() -> Driver:
    """The driver of this process.

    Raises:
        Unsupported: If the bindings are not installed.
    """
    global _current
    if _current is None:
        try:
            from cuda.bindings import driver as api
        except ImportError as error:
            message = f"the CUDA driver's bindings are not installed ({error})"
            raise Unsupported(message, hint="pip install 'cuda-python>=13,<14'") from error
        _current = Driver(api)
    return _current


@contextmanager
def use_driver(other: Driver) -> Iterator[Driver]:
    """Within the block, what is loaded runs on another driver. For tests."""
    global _current
    before, _current = _current, other
    try:
        yield other
    finally:
        _current = before
