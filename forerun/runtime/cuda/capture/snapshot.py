"""Copies of the program's memory: to put it back as it was, and to tell what is different now."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from forerun.captured.graph import MemoryRange
from forerun.runtime.cuda.driver.driver import Driver
from forerun.runtime.cuda.driver.scope import Scope

__all__ = ["Differences", "Snapshot"]

_CTAS, _THREADS = 1024, 256


class Snapshot:
    """A copy of memory. It is taken when it is made, and can be taken again.

    Args:
        memory: What is copied.
        scope: What owns the copy.
        stream: Where copies are enqueued.
    """

    def __init__(self, memory: Iterable[MemoryRange], scope: Scope, stream: Any) -> None:
        self._driver = scope.driver
        self._stream = stream
        self.copies: list[tuple[MemoryRange, Any]] = []
        for one in memory:
            copy = scope.own("memory", self._driver.call("cuMemAlloc", one.size), "cuMemFree")
            self.copies.append((one, copy))
        self.take()

    def take(self) -> None:
        """Copy the memory as it is."""
        for memory, copy in self.copies:
            self._driver.call("cuMemcpyDtoDAsync", copy, memory.address, memory.size, self._stream)

    def put_back(self) -> None:
        """Make the memory what it was."""
        for memory, copy in self.copies:
            self._driver.call("cuMemcpyDtoDAsync", memory.address, copy, memory.size, self._stream)


class Differences:
    """Compares memory with snapshots, on the GPU.

    Args:
        scope: What owns the code.
        stream: Where it runs.

    Raises:
        CompileError: If its kernel cannot be compiled.
        CudaError: If the driver fails.
    """

    def __init__(self, scope: Scope, stream: Any) -> None:
        from forerun.runtime.toolchain import Source, compile_unit

        self._driver = driver = scope.driver
        self._stream = stream
        text = Path(__file__).with_name("differences.cu").read_text(encoding="utf-8")
        code = compile_unit(Source("differences.cu", text), _architecture(driver)).code
        module = scope.own("module", driver.call("cuModuleLoadData", code), "cuModuleUnload")
        self._function = driver.call("cuModuleGetFunction", module, b"count_differences")

    def of(self, snapshot: Snapshot) -> Mapping[MemoryRange, int]:
        """How many bytes of each piece of memory are others than in a snapshot; those with none are left out.

        Raises:
            CudaError: If the driver fails, or what ran before did.
        """
        driver, count = self._driver, len(snapshot.copies)
        scope = Scope(driver)
        try:
            size = 8 * max(count, 1)
            counts = scope.own("memory", driver.call("cuMemAlloc", size), "cuMemFree")
            driver.call("cuMemsetD8Async", counts, 0, size, self._stream)
            for number, (memory, copy) in enumerate(snapshot.copies):
                self._launch(memory.address, int(copy), memory.size, int(counts) + 8 * number)
            driver.call("cuStreamSynchronize", self._stream)
            found = (ctypes.c_uint64 * max(count, 1))()
            driver.call("cuMemcpyDtoH", ctypes.addressof(found), counts, size)
        finally:
            error = scope.release()
        if error is not None:
            raise error
        return {memory: n for (memory, _), n in zip(snapshot.copies, found, strict=False) if n}

    def _launch(self, *words: int) -> None:
        values = [ctypes.c_uint64(word) for word in words]
        table = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        grid, block = (_CTAS, 1, 1), (_THREADS, 1, 1)
        self._driver.call("cuLaunchKernel", self._function, *grid, *block, 0, self._stream, ctypes.addressof(table), 0)


def _architecture(driver: Driver) -> str:
    """The architecture of the GPU whose context is current."""
    device = driver.call("cuCtxGetDevice")
    major, minor = (driver.attribute(device, f"COMPUTE_CAPABILITY_{part}") for part in ("MAJOR", "MINOR"))
    return f"sm_{major}{minor}"
