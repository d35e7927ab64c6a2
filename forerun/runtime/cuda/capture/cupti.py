"""CUPTI's callbacks, by ctypes. A process has one subscriber, so all that is recorded shares it.

Layouts: ``CUpti_CallbackData`` (cupti_callbacks.h). Numbers of callbacks: cupti_driver_cbid.h, which keeps them from
release to release.
"""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from forerun.support.diagnostics import Unsupported

__all__ = ["DRIVER_API", "RESOURCE", "CallbackData", "Recorder", "Subscription", "find_cupti", "word_at"]

DRIVER_API, RESOURCE = 1, 3
_EXIT = 1
_HELD = 39  # CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED

_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p)


class CallbackData(ctypes.Structure):
    """What CUPTI tells of a call of the driver: before it, and when it has returned."""

    _fields_ = (
        ("site", ctypes.c_int),
        ("function_name", ctypes.c_char_p),
        ("parameters", ctypes.c_void_p),
        ("result", ctypes.c_void_p),
    )

    @property
    def has_returned(self) -> bool:
        """Whether the call is over."""
        return bool(self.site == _EXIT)

    @property
    def succeeded(self) -> bool:
        """Whether a call that is over returned no error."""
        return not ctypes.c_int.from_address(self.result).value


class Recorder(Protocol):
    """What CUPTI calls. ``failures`` are what it raised, a sentence each."""

    failures: list[str]

    @property
    def required(self) -> Collection[tuple[int, int]]:
        """Domains and numbers of callbacks without which it is of no use."""

    @property
    def wanted(self) -> Collection[tuple[int, int]]:
        """Those that an older CUPTI may not have."""

    def called(self, domain: int, number: int, data: int) -> None:
        """Called back on the thread of the program that calls the driver, with the address of what CUPTI tells."""


def find_cupti() -> str | None:
    """Where CUPTI's library is: in a wheel, in a toolkit, or on the loader's path; ``None`` if it is nowhere."""
    import sys

    patterns = ("nvidia/*/lib/libcupti.so.1[23]", "nvidia/cuda_cupti/lib/libcupti.so.1[23]")
    for folder in dict.fromkeys(sys.path):
        for pattern in patterns:
            found = sorted(Path(folder or ".").glob(pattern))
            if found:
                return str(found[-1])
    toolkits = sorted(Path("/usr/local").glob("cuda*/extras/CUPTI/lib64/libcupti.so"))
    return str(toolkits[-1]) if toolkits else None


class Subscription:
    """CUPTI's callbacks for some recorders, each of which has callbacks of its own.

    Args:
        recorders: What is called.
    """

    def __init__(self, *recorders: Recorder) -> None:
        self._recorders = {key: one for one in recorders for key in (*one.required, *one.wanted)}
        self._required = {key for one in recorders for key in one.required}
        self._cupti: Any = None
        self._subscriber = ctypes.c_void_p()
        self._callback = _CALLBACK(self.called)  # kept: CUPTI holds its address

    def start(self) -> None:
        """Begin.

        Raises:
            Unsupported: If there is no CUPTI, or somebody else uses it.
        """
        path = find_cupti()
        if path is None:
            hint = "pip install nvidia-cuda-cupti, or install the CUDA toolkit"
            raise Unsupported("images of kernels cannot be seen: there is no CUPTI", hint=hint)
        try:
            cupti = ctypes.CDLL(path)
        except OSError as error:
            raise Unsupported(f"images of kernels cannot be seen: {error}") from error
        result = cupti.cuptiSubscribe(ctypes.byref(self._subscriber), self._callback, None)
        if result == _HELD:
            hint = "run without the profiler (nsys, ncu, torch.profiler), which holds CUPTI"
            raise Unsupported("images of kernels cannot be seen: a profiler is at work", hint=hint)
        if result:
            raise Unsupported(f"images of kernels cannot be seen: cuptiSubscribe fails with {result}")
        self._cupti = cupti
        for key in self._recorders:
            result = cupti.cuptiEnableCallback(1, self._subscriber, *key)
            if result and key in self._required:
                self.stop()
                raise Unsupported(f"images of kernels cannot be seen: cuptiEnableCallback fails with {result}")

    def stop(self) -> None:
        """End; what was recorded stays."""
        if self._cupti is not None:
            self._cupti.cuptiUnsubscribe(self._subscriber)
            self._cupti = None

    @contextmanager
    def recording(self) -> Iterator[Subscription]:
        """Within the block, the recorders are called.

        Raises:
            Unsupported: If there is no CUPTI, or somebody else uses it.
        """
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def called(self, _: Any, domain: int, number: int, data: int) -> None:
        """What CUPTI calls: hands on to the recorder that asked for it."""
        recorder = self._recorders[domain, number]
        try:
            recorder.called(domain, number, data)
        except Exception as error:  # nothing can be raised through C
            recorder.failures.append(f"{type(error).__name__}: {error}")


def word_at(address: int) -> int:
    """The eight bytes at an address: a handle, a pointer or a size."""
    return ctypes.c_uint64.from_address(address).value
