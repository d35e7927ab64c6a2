"""A CUDA driver that is made up: memory is the host's, handles are numbers, graphs run in order when launched.

It implements the calls that forerun makes, strictly: what was freed cannot be used, copies must lie inside allocations,
a context must be current, dependencies must be nodes of the same graph. Kernels run as NumPy functions; what stands for
their machine code is their number in :data:`fake_graphs.INTERPRETERS`.
"""

# ruff: noqa: N802 - the driver's names

from __future__ import annotations

import ctypes
import struct
from typing import Any

from cuda.bindings import driver as real

from tests.runtime.cuda.fake_graphs import BAD, OK, FakeGraphs, R, drop

_ENQUEUED = (
    "cuGraphLaunch",
    "cuEventRecord",
    "cuEventQuery",
    "cuStreamWaitEvent",
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
)
"""What does not wait for what was launched before; all else is as if it did."""


class FakeCuda(FakeGraphs):
    """What stands in the place of ``cuda.bindings.driver``."""

    CUresult = real.CUresult
    CUdevice_attribute = real.CUdevice_attribute
    CUfunction_attribute = real.CUfunction_attribute
    CUgraphNodeParams = real.CUgraphNodeParams
    CUgraphEdgeData = real.CUgraphEdgeData
    CUkernelNodeAttrValue = real.CUkernelNodeAttrValue
    CUkernelNodeAttrID = real.CUkernelNodeAttrID
    CUDA_GRAPH_INSTANTIATE_PARAMS = real.CUDA_GRAPH_INSTANTIATE_PARAMS
    CUgraph = int

    def __init__(self, *, devices: int = 1, version: int = 13000, capability: tuple[int, int] = (9, 0)) -> None:
        super().__init__()
        self.devices, self.version, self.capability = devices, version, capability
        self.capacity = 1 << 30
        self.log: list[str] = []
        self.memory: dict[int, Any] = {}
        self.pinned: dict[int, Any] = {}
        self.streams: set[int] = set()
        self.events: set[int] = set()
        self.retained = 0
        self.current = 0
        self.function_attributes: dict[int, dict[str, int]] = {}
        self.context = 0xC0DE

    # Looking into it

    def leaks(self) -> dict[str, int]:
        """How much of each kind is out."""
        owned = {name: len(getattr(self, name)) for name in ("memory", "pinned", "executables", "modules", "events")}
        owned |= {"graphs": len(self.graphs.keys() - self.owned_graphs), "streams": len(self.streams)}
        return {name: number for name, number in owned.items() if number}

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if not name.startswith("cu") or name in ("cuGetErrorString", "current"):
            return found

        def call(*arguments: Any) -> Any:
            self.log.append(name)
            if self.sticky is not None:
                return (self.sticky, None) if name == "cuGraphAddNode" else (self.sticky,)
            if self.needs_context(name) and not self.current:
                return (R.CUDA_ERROR_INVALID_CONTEXT,)
            if self.waiting and name not in _ENQUEUED:
                self.join()
            return found(*arguments)

        return call

    def needs_context(self, name: str) -> bool:
        return not name.startswith(("cuInit", "cuDriver", "cuDevice", "cuCtxGetCurrent", "cuCtxSetCurrent"))

    # Devices and contexts

    def cuInit(self, flags: int) -> Any:
        return (OK,)

    def cuDriverGetVersion(self) -> Any:
        return OK, self.version

    def cuDeviceGetCount(self) -> Any:
        return OK, self.devices

    def cuDeviceGet(self, number: int) -> Any:
        return (OK, number) if number < self.devices else (R.CUDA_ERROR_INVALID_DEVICE,)

    def cuDeviceGetName(self, size: int, device: int) -> Any:
        return OK, b"Fake GPU\0\0"

    def cuDeviceGetAttribute(self, kind: Any, device: int) -> Any:
        return OK, 132 if "MULTIPROCESSOR" in kind.name else self.capability["MINOR" in kind.name]

    def cuGetErrorString(self, error: Any) -> Any:
        return OK, b"in the fake driver's words"

    def cuDevicePrimaryCtxRetain(self, device: int) -> Any:
        self.retained += 1
        return OK, self.context

    def cuDevicePrimaryCtxRelease(self, device: int) -> Any:
        if not self.retained:
            return (R.CUDA_ERROR_INVALID_CONTEXT,)
        self.retained -= 1
        return (OK,)

    def cuCtxGetCurrent(self) -> Any:
        return OK, self.current

    def cuCtxSetCurrent(self, context: int) -> Any:
        self.current = context
        return (OK,)

    def cuCtxSynchronize(self) -> Any:
        return (OK,)

    # Streams and events

    def cuStreamCreate(self, flags: int) -> Any:
        return OK, self._new(self.streams)

    def cuStreamDestroy(self, stream: int) -> Any:
        return drop(self.streams, stream)

    def cuStreamSynchronize(self, stream: int) -> Any:
        return (OK,) if stream in self.streams or stream in (0, 1, 2) else (BAD,)

    def cuStreamWaitEvent(self, stream: int, event: int, flags: int) -> Any:
        return (OK,) if event in self.events else (BAD,)

    def cuEventCreate(self, flags: int) -> Any:
        return OK, self._new(self.events)

    def cuEventDestroy(self, event: int) -> Any:
        return drop(self.events, event)

    def cuEventRecord(self, event: int, stream: int) -> Any:
        return (OK,) if event in self.events and self._is_stream(stream) else (BAD,)

    def _is_stream(self, stream: int) -> bool:
        return stream in self.streams or stream in (0, 1, 2)

    def cuEventSynchronize(self, event: int) -> Any:
        return (OK,) if event in self.events else (BAD,)

    def cuEventQuery(self, event: int) -> Any:
        if not self.is_idle():
            return (R.CUDA_ERROR_NOT_READY,)
        return (OK,) if event in self.events else (BAD,)

    def cuEventElapsedTime(self, start: int, end: int) -> Any:
        return (OK, 1.5) if {start, end} <= self.events else (BAD,)

    # Memory

    def cuMemAlloc(self, size: int) -> Any:
        return self._allocate(self.memory, size)

    def cuMemFree(self, address: int) -> Any:
        return drop(self.memory, address)

    def cuMemHostAlloc(self, size: int, flags: int) -> Any:
        return self._allocate(self.pinned, size)

    def cuMemFreeHost(self, address: int) -> Any:
        return drop(self.pinned, address)

    def cuMemGetInfo(self) -> Any:
        return OK, self.capacity - self._used(), self.capacity

    def _used(self) -> int:
        return sum(len(block) for block in self.memory.values())

    def _allocate(self, table: dict[int, Any], size: int) -> Any:
        if size <= 0:
            return (BAD,)
        if self._used() + size > self.capacity:
            return (R.CUDA_ERROR_OUT_OF_MEMORY,)
        block = (ctypes.c_uint8 * (size + 256))()
        address = -(-ctypes.addressof(block) // 256) * 256
        view = (ctypes.c_uint8 * size).from_buffer(block, address - ctypes.addressof(block))
        table[address] = view
        return OK, address

    def inside(self, address: int, size: int) -> bool:
        """Whether bytes belong to an allocation that lives."""
        blocks = (*self.memory.items(), *self.pinned.items())
        return any(start <= address and address + size <= start + len(block) for start, block in blocks)

    def _copy(self, destination: int, source: int, size: int, check: tuple[int, ...]) -> Any:
        if not all(self.inside(address, size) for address in check):
            return (BAD,)
        ctypes.memmove(destination, source, size)
        return (OK,)

    def cuMemcpyHtoDAsync(self, destination: int, source: int, size: int, stream: int) -> Any:
        return self._copy(destination, source, size, (destination, source)) if stream in self.streams else (BAD,)

    def cuMemcpyDtoHAsync(self, destination: int, source: int, size: int, stream: int) -> Any:
        return self._copy(destination, source, size, (destination, source)) if stream in self.streams else (BAD,)

    def cuMemcpyDtoDAsync(self, destination: int, source: int, size: int, stream: int) -> Any:
        return self._copy(destination, source, size, (destination,)) if stream in self.streams else (BAD,)

    def cuMemcpyHtoD(self, destination: int, source: int, size: int) -> Any:
        return self._copy(destination, source, size, (destination,))

    def cuMemcpyDtoH(self, destination: int, source: int, size: int) -> Any:
        return self._copy(destination, source, size, (source,))

    def cuMemsetD8Async(self, address: int, value: int, size: int, stream: int) -> Any:
        if not self.inside(address, size) or stream not in self.streams:
            return (BAD,)
        ctypes.memset(address, value, size)
        return (OK,)

    def cuMemsetD32Async(self, address: int, value: int, size: int, stream: int) -> Any:
        if not self.inside(address, 4 * size):
            return (BAD,)
        ctypes.memmove(address, struct.pack("<I", value) * size, 4 * size)
        return (OK,)

    # Code

    def cuModuleLoadData(self, image: bytes) -> Any:
        handle = next(self.numbers)
        self.modules[handle] = (image, {})
        return OK, handle

    def cuModuleUnload(self, module: int) -> Any:
        return drop(self.modules, module)

    def cuModuleGetFunction(self, module: int, name: bytes) -> Any:
        handle = next(self.numbers)
        self.modules[module][1][handle] = name.decode()
        return OK, handle

    def cuFuncSetAttribute(self, function: int, kind: Any, value: int) -> Any:
        self.function_attributes.setdefault(function, {})[kind.name.removeprefix("CU_FUNC_ATTRIBUTE_")] = value
        return (OK,)

    def cuLaunchKernel(self, function: int, *rest: Any) -> Any:
        *_, stream, parameters, extra = rest
        if not self._is_stream(stream) or extra != 0 or len(rest) != 10:
            return (BAD,)
        entry, length, run = self._function(function)
        pointers = (ctypes.c_uint64 * length).from_address(parameters)
        self.kernels.get(entry, run)(*(ctypes.c_uint64.from_address(pointer).value for pointer in pointers))
        return (OK,)

    # Handles

    def _new(self, table: set[int]) -> int:
        handle = next(self.numbers)
        table.add(handle)
        return handle
