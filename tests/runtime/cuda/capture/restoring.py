"""A made-up driver that maps memory at given addresses, and graphs that other processes captured, for tests."""

# ruff: noqa: N802 - the driver's names

from __future__ import annotations

import ctypes
import ctypes.util
import mmap
from collections.abc import Callable
from typing import Any

from cuda.bindings import driver as real

from forerun.captured import CapturedEdge, CapturedFunction, CapturedGraph, CapturedNode, MemoryRange
from forerun.captured.graph import digest_of
from tests.runtime.cuda.fake_driver import FakeCuda
from tests.runtime.cuda.fake_graphs import BAD, OK

__all__ = ["GRANULARITY", "IMAGE", "PLACES", "SIZE", "RestoringCuda", "launch", "program"]

GRANULARITY = 1 << 16
SIZE = 1 << 12
IMAGE = b"the image"
PLACES = {name: 0x5000_0010_0200 + 0x10_0000 * number for number, name in enumerate("wxyz")}
"""Where the program had its memory: addresses that nothing here has."""

_FIXED_NO_REPLACE = 0x100000
_libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


class RestoringCuda(FakeCuda):
    """Virtual memory management, over pages of this process at the very addresses that are asked for."""

    CUmemLocation = real.CUmemLocation
    CUmemLocationType = real.CUmemLocationType
    CUmemAllocationProp = real.CUmemAllocationProp
    CUmemAllocationType = real.CUmemAllocationType
    CUmemAllocationGranularity_flags = real.CUmemAllocationGranularity_flags
    CUmemAccessDesc = real.CUmemAccessDesc
    CUmemAccess_flags = real.CUmemAccess_flags
    CUlaunchMemSyncDomain = real.CUlaunchMemSyncDomain

    def __init__(self) -> None:
        super().__init__()
        self.reserved: dict[int, int] = {}
        self.created: dict[int, int] = {}
        self.taken: set[int] = set()
        self.layouts: dict[str, list[tuple[int, int]]] = {"add": [(0, 8), (8, 8), (16, 8)]}
        self.kernels["add"] = add
        self.values: list[tuple[int, Any, Any]] = []

    def leaks(self) -> dict[str, int]:
        return super().leaks() | {k: len(v) for k, v in (("r", self.reserved), ("c", self.created)) if v}

    def cuMemGetAllocationGranularity(self, properties: Any, option: Any) -> Any:
        return OK, GRANULARITY

    def cuMemAddressReserve(self, size: int, alignment: int, address: int, flags: int) -> Any:
        assert size % GRANULARITY == address % GRANULARITY == 0
        place = (
            address + (1 << 40) if address in self.taken else address or 0x6000_0000_0000 + (len(self.reserved) << 30)
        )
        self.reserved[place] = size
        return OK, place

    def cuMemAddressFree(self, address: int, size: int) -> Any:
        return (OK,) if self.reserved.pop(address, 0) == size and address not in self.memory else (BAD,)

    def cuMemCreate(self, size: int, properties: Any, flags: int) -> Any:
        assert properties.location.id == 0
        handle = next(self.numbers)
        self.created[handle] = size
        return OK, handle

    def cuMemRelease(self, handle: int) -> Any:
        return (OK,) if self.created.pop(handle, 0) else (BAD,)

    def cuMemMap(self, address: int, size: int, offset: int, handle: int, flags: int) -> Any:
        if self.reserved.get(address) != size or self.created.get(handle) != size:
            return (BAD,)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _FIXED_NO_REPLACE
        assert _libc.mmap(address, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0) == address
        self.memory[address] = (ctypes.c_uint8 * size).from_address(address)
        return (OK,)

    def cuMemUnmap(self, address: int, size: int) -> Any:
        assert len(self.memory.pop(address)) == size
        return (OK,) if _libc.munmap(address, size) == 0 else (BAD,)

    def cuMemSetAccess(self, address: int, size: int, access: list[Any], count: int) -> Any:
        return (OK,) if address in self.memory and count == len(access) == 1 else (BAD,)

    def cuMemsetD8(self, address: int, value: int, size: int) -> Any:
        ctypes.memset(address, value, size)
        return (OK,)

    def cuFuncGetParamInfo(self, function: int, number: int) -> Any:
        layout = self.layouts[self._name(function)]
        return (OK, *layout[number]) if number < len(layout) else (BAD, 0, 0)

    def cuFuncGetAttribute(self, kind: Any, function: int) -> Any:
        return OK, self.function_attributes.get(function, {}).get(kind.name.removeprefix("CU_FUNC_ATTRIBUTE_"), 0)

    def cuGraphInstantiate(self, graph: int, flags: int) -> Any:
        handle = next(self.numbers)
        self.executables[handle] = list(self.graphs[graph])
        return OK, handle

    def cuGraphKernelNodeSetAttribute(self, node: int, kind: Any, value: Any) -> Any:
        self.values.append((node, kind, value))
        return super().cuGraphKernelNodeSetAttribute(node, kind, value)

    def _name(self, function: int) -> str:
        return next(functions[function] for _, functions in self.modules.values() if function in functions)

    def _function(self, handle: int) -> tuple[str, int, Callable[..., None]]:
        name = self._name(handle)
        return name, len(self.layouts[name]), self.kernels[name]


def add(w: int, x: int, y: int) -> None:
    """``y = w + x``, of one number."""
    total = sum(ctypes.c_uint32.from_address(address).value for address in (w, x))
    ctypes.c_uint32.from_address(y).value = total & 0xFFFFFFFF


def launch(*names: str, **more: Any) -> CapturedNode:
    """A launch of :func:`add` with pointers to blocks."""
    values = tuple(PLACES[name].to_bytes(8, "little") for name in names)
    return CapturedNode("kernel", 0, (2, 1, 1), (64, 1, 1), parameters=values, **more)


def program(*nodes: CapturedNode, edges: tuple[CapturedEdge, ...] = (), **function: Any) -> CapturedGraph:
    """A captured graph whose kernels are :func:`add`."""
    own = CapturedFunction("add", digest_of(IMAGE), "", ((0, 8), (8, 8), (16, 8)), **function)
    memory = tuple(MemoryRange(at, SIZE, name=name) for name, at in PLACES.items())
    return CapturedGraph(nodes, edges, (own,), {digest_of(IMAGE): IMAGE}, memory=memory)
