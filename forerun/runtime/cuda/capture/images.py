"""The image of every kernel that a process loads: CUPTI's callbacks, by ctypes.

CUPTI tells of each module's machine code when it is loaded (``CUPTI_CBID_RESOURCE_MODULE_LOADED``, cupti_callbacks.h);
what the driver call that loaded it returned, is the module's handle. Numbers of callbacks: cupti_driver_cbid.h, which
keeps them from release to release.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forerun.captured.graph import digest_of
from forerun.support.diagnostics import Unsupported

__all__ = ["ImageRecorder", "find_cupti"]

_DRIVER_API, _RESOURCE = 1, 3
_MODULE_LOADED = 6
_LOADING = {18: "cuModuleLoad", 19: "cuModuleLoadData", 20: "cuModuleLoadDataEx", 21: "cuModuleLoadFatBinary"}
_LIBRARY = {682: "cuLibraryGetModule", 683: "cuKernelGetFunction"}
_UNLOADING = {22: "cuModuleUnload"}
_ENTER, _EXIT = 0, 1
_HELD = 39  # CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED

_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p)


class _CallbackData(ctypes.Structure):
    _fields_ = (
        ("site", ctypes.c_int),
        ("function_name", ctypes.c_char_p),
        ("parameters", ctypes.c_void_p),
        ("result", ctypes.c_void_p),
    )


class _ResourceData(ctypes.Structure):
    _fields_ = (("context", ctypes.c_void_p), ("handle", ctypes.c_void_p), ("descriptor", ctypes.c_void_p))


class _ModuleData(ctypes.Structure):
    _fields_ = (("number", ctypes.c_uint32), ("size", ctypes.c_size_t), ("code", ctypes.c_void_p))


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


class ImageRecorder:
    """Notes the machine code of modules as they are loaded.

    Attributes:
        images: Machine code, by its digest.
        by_module: The digest of what a module's handle stands for. A handle that is given again stands for the newer.
        unclaimed: Digests of what was loaded without a call that returned a module: by libraries, at the first use.
    """

    def __init__(self) -> None:
        self.images: dict[str, bytes] = {}
        self.by_module: dict[int, str] = {}
        self.unclaimed: dict[str, None] = {}
        self.failures: list[str] = []
        self._loading: dict[int, list[str]] = {}
        self._cupti: Any = None
        self._subscriber = ctypes.c_void_p()
        self._callback = _CALLBACK(self._called)  # kept: CUPTI holds its address

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
        wanted = [(_RESOURCE, _MODULE_LOADED), *((_DRIVER_API, n) for n in (*_LOADING, *_LIBRARY, *_UNLOADING))]
        for domain, number in wanted:
            result = cupti.cuptiEnableCallback(1, self._subscriber, domain, number)
            if result:
                self.stop()
                raise Unsupported(f"images of kernels cannot be seen: cuptiEnableCallback fails with {result}")

    def stop(self) -> None:
        """End; what was seen stays."""
        if self._cupti is not None:
            self._cupti.cuptiUnsubscribe(self._subscriber)
            self._cupti = None

    @contextmanager
    def recording(self) -> Iterator[ImageRecorder]:
        """Within the block, loaded modules are noted."""
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def _called(self, _: Any, domain: int, number: int, data: int) -> None:
        try:
            if domain == _RESOURCE:
                self._loaded(data)
            else:
                self._returned(number, data)
        except Exception as error:  # nothing can be raised through C
            self.failures.append(f"{type(error).__name__}: {error}")

    def _loaded(self, data: int) -> None:
        resource = _ResourceData.from_address(data)
        if not resource.descriptor:
            return
        module = _ModuleData.from_address(resource.descriptor)
        if not module.code or not module.size:
            return
        code = ctypes.string_at(module.code, module.size)
        digest = digest_of(code)
        self.images.setdefault(digest, code)
        self.unclaimed[digest] = None
        self._loading.setdefault(threading.get_ident(), []).append(digest)

    def _returned(self, number: int, data: int) -> None:
        call = _CallbackData.from_address(data)
        thread = threading.get_ident()
        if number in _UNLOADING:
            if call.site == _ENTER:
                self.by_module.pop(_word(call.parameters), None)
        elif call.site == _ENTER:
            self._loading[thread] = []
        else:
            loaded = self._loading.pop(thread, [])
            succeeded = not ctypes.c_int.from_address(call.result).value
            if number in _LOADING and succeeded and len(loaded) == 1:
                # The first parameter of all of them is CUmodule*.
                self.by_module[_word(_word(call.parameters))] = loaded[0]
                self.unclaimed.pop(loaded[0], None)


def _word(address: int) -> int:
    return ctypes.c_uint64.from_address(address).value
