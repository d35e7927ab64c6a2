"""The image of every kernel that a process loads.

CUPTI tells of each module's machine code when it is loaded (``CUPTI_CBID_RESOURCE_MODULE_LOADED``, cupti_callbacks.h);
what the driver call that loaded it returned, is the module's handle.
"""

from __future__ import annotations

import ctypes
import threading

from forerun.captured.graph import digest_of
from forerun.runtime.cuda.capture.cupti import DRIVER_API, RESOURCE, CallbackData, word_at

__all__ = ["ImageRecorder"]

_MODULE_LOADED = 6
_LOADING = {18: "cuModuleLoad", 19: "cuModuleLoadData", 20: "cuModuleLoadDataEx", 21: "cuModuleLoadFatBinary"}
_LIBRARY = {682: "cuLibraryGetModule", 683: "cuKernelGetFunction"}
_UNLOADING = {22: "cuModuleUnload"}


class _ResourceData(ctypes.Structure):
    _fields_ = (("context", ctypes.c_void_p), ("handle", ctypes.c_void_p), ("descriptor", ctypes.c_void_p))


class _ModuleData(ctypes.Structure):
    _fields_ = (("number", ctypes.c_uint32), ("size", ctypes.c_size_t), ("code", ctypes.c_void_p))


class ImageRecorder:
    """Notes the machine code of modules as they are loaded; a :class:`~forerun.runtime.cuda.capture.cupti.Recorder`.

    Attributes:
        images: Machine code, by its digest.
        by_module: The digest of what a module's handle stands for. A handle that is given again stands for the newer.
        unclaimed: Digests of what was loaded without a call that returned a module: by libraries, at the first use.
    """

    required = ((RESOURCE, _MODULE_LOADED), *((DRIVER_API, n) for n in (*_LOADING, *_LIBRARY, *_UNLOADING)))
    wanted = ()

    def __init__(self) -> None:
        self.images: dict[str, bytes] = {}
        self.by_module: dict[int, str] = {}
        self.unclaimed: dict[str, None] = {}
        self.failures: list[str] = []
        self._loading: dict[int, list[str]] = {}

    def called(self, domain: int, number: int, data: int) -> None:
        """A module was loaded, or a call that loads or unloads one begins or returns."""
        if domain == RESOURCE:
            self._loaded(data)
        else:
            self._returned(number, CallbackData.from_address(data))

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

    def _returned(self, number: int, call: CallbackData) -> None:
        thread = threading.get_ident()
        if number in _UNLOADING:
            if not call.has_returned:
                self.by_module.pop(word_at(call.parameters), None)
        elif not call.has_returned:
            self._loading[thread] = []
        else:
            loaded = self._loading.pop(thread, [])
            if number in _LOADING and call.succeeded and len(loaded) == 1:
                # The first parameter of all of them is CUmodule*.
                self.by_module[word_at(word_at(call.parameters))] = loaded[0]
                self.unclaimed.pop(loaded[0], None)
