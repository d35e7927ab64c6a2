"""Memory for a captured graph: at the addresses where its program had its own, or elsewhere."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from forerun.captured.graph import MemoryRange
from forerun.runtime.cuda.driver.driver import Driver
from forerun.runtime.cuda.driver.scope import Scope
from forerun.support.diagnostics import InvalidInput, Unsupported

__all__ = ["ReservedMemory", "spans"]

_HINT = "start a new process that allocates nothing before; or let it lie elsewhere: restore(..., elsewhere=True)"


class ReservedMemory:
    """Device memory for some ranges, all zeros, by the driver's virtual memory management.

    Args:
        scope: Who gives it back.
        ranges: The memory that is wanted, of the kind ``device`` or ``free``.
        device: The number of the device.
        elsewhere: Whether it may lie at other addresses than the ranges.

    Attributes:
        spans: First and last address of the ranges, in whole units.
        places: Where each span lies.

    Raises:
        Unsupported: If something else has one of the addresses.
        CudaError: If there is not enough memory.
    """

    def __init__(self, scope: Scope, ranges: Sequence[MemoryRange], device: int, *, elsewhere: bool = False) -> None:
        self._scope = scope
        self._driver: Driver = scope.driver
        self._api = self._driver.api
        self._location = self._device_location(device)
        self.spans = tuple(spans(ranges, self._granularity()))
        self._elsewhere = elsewhere
        self.places = tuple(self._map(begin, end - begin) for begin, end in self.spans)

    def write(self, address: int, data: bytes) -> None:
        """Put bytes to an address of the ranges.

        Raises:
            InvalidInput: If they do not lie in the memory.
            CudaError: If the driver fails.
        """
        place = self.place(address, len(data))
        if data:
            source = ctypes.create_string_buffer(data, len(data))
            self._driver.call("cuMemcpyHtoD", place, ctypes.addressof(source), len(data))

    def read(self, address: int, size: int) -> bytes:
        """The bytes at an address of the ranges.

        Raises:
            InvalidInput: If they do not lie in the memory.
            CudaError: If the driver fails.
        """
        place = self.place(address, size)
        if not size:
            return b""
        found = ctypes.create_string_buffer(size)
        self._driver.call("cuMemcpyDtoH", ctypes.addressof(found), place, size)
        return found.raw

    def place(self, address: int, size: int = 1) -> int:
        """Where bytes at an address of the ranges lie.

        Raises:
            InvalidInput: If they do not lie in the memory.
        """
        for (begin, end), place in zip(self.spans, self.places, strict=True):
            if size >= 0 and begin <= address and address + size <= end:
                return place + address - begin
        hint = "CapturedGraph.memory says where the program's memory is"
        raise InvalidInput(f"{size} bytes at {address:#x} do not lie in the captured memory", hint=hint)

    def _device_location(self, device: int) -> Any:
        location = self._api.CUmemLocation()
        location.type = self._api.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        location.id = device
        return location

    def _properties(self) -> Any:
        properties = self._api.CUmemAllocationProp()
        properties.type = self._api.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        properties.location = self._location
        return properties

    def _granularity(self) -> int:
        least = self._api.CUmemAllocationGranularity_flags.CU_MEM_ALLOC_GRANULARITY_MINIMUM
        return int(self._driver.call("cuMemGetAllocationGranularity", self._properties(), least))

    def _map(self, address: int, size: int) -> int:
        """Where memory for an address lies, zeroed. What is given back first is what was owned last."""
        error, *found = self._driver.function("cuMemAddressReserve")(size, 0, 0 if self._elsewhere else address, 0)
        if error:
            raise self._taken(address, size)
        place = self._scope.own("memory", found[0], "cuMemAddressFree", found[0], size)
        if int(place) != address and not self._elsewhere:
            raise self._taken(address, size)
        handle = self._driver.call("cuMemCreate", size, self._properties(), 0)
        self._scope.own("memory", handle, "cuMemRelease")
        self._driver.call("cuMemMap", place, size, 0, handle, 0)
        self._scope.own("memory", place, "cuMemUnmap", place, size)
        access = self._api.CUmemAccessDesc()
        access.location = self._location
        access.flags = self._api.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
        self._driver.call("cuMemSetAccess", place, size, [access], 1)
        self._driver.call("cuMemsetD8", place, 0, size)
        return int(place)

    def _taken(self, address: int, size: int) -> Unsupported:
        return Unsupported(f"{size} bytes at {address:#x}, which the program had, cannot be had here", hint=_HINT)


def spans(ranges: Iterable[MemoryRange], granularity: int) -> Iterator[tuple[int, int]]:
    """First and last address of what must be mapped for some ranges, in whole units, with nothing twice."""
    begin = end = 0
    for memory in sorted(ranges, key=lambda one: one.address):
        first = memory.address // granularity * granularity
        last = -(-memory.stop // granularity) * granularity
        if first > end and begin < end:
            yield begin, end
            begin = first
        elif begin == end:
            begin = first
        end = max(end, last)
    if begin < end:
        yield begin, end
