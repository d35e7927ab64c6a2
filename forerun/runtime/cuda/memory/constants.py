"""Constants of several programs in a few blocks of device memory, whose gaps are used again."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from forerun.runtime.constants import HeldConstant
from forerun.runtime.cuda.driver.device import Device
from forerun.runtime.cuda.driver.driver import Driver
from forerun.runtime.cuda.driver.errors import CudaError
from forerun.runtime.cuda.memory.memory import ALIGNMENT, readable_size
from forerun.runtime.cuda.memory.resources import Resources
from forerun.runtime.cuda.memory.upload import UploadBuffers

__all__ = ["DeviceConstants"]


class _Block:
    """A piece of memory from the driver, and the spans in it that are taken: their ends, by first address."""

    def __init__(self, handle: Any, size: int) -> None:
        self.handle = handle
        self.address = int(handle)
        self.size = size
        self.taken: dict[int, int] = {}

    def gap(self, size: int) -> int | None:
        """The first address with so much room, of the smallest gap that has it; ``None`` if there is none."""
        spans = sorted([(self.address, self.address), *self.taken.items(), (self.address + self.size,) * 2])
        gaps = [(start - stop, stop) for (_, stop), (start, _) in pairwise(spans) if start - stop >= size]
        return min(gaps)[1] if gaps else None


class DeviceConstants:
    """Memory for constants on a GPU: see :class:`forerun.runtime.constants.ConstantMemory`.

    What is put there together and fits no gap gets one block, exactly as large as needed. A block of which nothing is
    used any more goes back to the driver; the rest by :meth:`close`, or when nobody refers to this any more.

    Raises:
        CudaError: If the driver fails.
    """

    def __init__(self, driver: Driver, device: Device) -> None:
        self._resources = Resources(driver, device)
        self._blocks: list[_Block] = []
        self._finalizer = weakref.finalize(self, self._resources.close)

    @property
    def size_bytes(self) -> int:
        """Bytes of all blocks."""
        return sum(block.size for block in self._blocks)

    def put(self, contents: Sequence[bytes]) -> list[HeldConstant]:
        """Upload contents, and wait until they are there.

        Raises:
            CudaError: If there is not enough memory; then nothing was put there.
        """
        places: dict[bytes, int] = {}
        try:
            with self._resources.context.current():
                self._take(contents, places)
                self._upload(places)
        except BaseException:
            for address in places.values():
                self.free(address)
            raise
        found = [HeldConstant(data, places[data]) for data in contents]
        for held in found:
            self._resources.lease(held)
        return found

    def free(self, place: int) -> None:
        """Take back one constant; the last one of a block gives that back.

        Raises:
            CudaError: If the driver does not take it.
        """
        block = next(block for block in self._blocks if place in block.taken)
        del block.taken[place]
        if not block.taken:
            self._blocks.remove(block)
            with self._resources.context.current():
                self._resources.scope.release_one(block.handle)

    def close(self) -> None:
        """Give everything back; as long as constants are held, with the last of them.

        Raises:
            CudaError: If the driver does not take it.
        """
        self._blocks.clear()
        error = self._resources.close() if self._finalizer.detach() is not None else None
        if error is not None:
            raise error

    def _take(self, contents: Sequence[bytes], places: dict[bytes, int]) -> None:
        """Find room: in gaps, and for what fits none in one new block."""
        rest: list[bytes] = []
        for data in sorted(contents, key=len, reverse=True):
            place = self._in_gap(_room(data))
            if place is None:
                rest.append(data)
            else:
                places[data] = place
        if not rest:
            return
        block = self._allocate(sum(map(_room, rest)))
        end = block.address
        for data in rest:
            places[data], block.taken[end] = end, end + _room(data)
            end += _room(data)

    def _in_gap(self, size: int) -> int | None:
        for block in self._blocks:
            place = block.gap(size)
            if place is not None:
                block.taken[place] = place + size
                return place
        return None

    def _allocate(self, size: int) -> _Block:
        scope = self._resources.scope
        try:
            handle = scope.own("memory", scope.driver.call("cuMemAlloc", size), "cuMemFree")
        except CudaError as error:
            if error.is_out_of_memory:
                raise error.about(detail=f"{readable_size(size)} were asked for constants") from error
            raise
        block = _Block(handle, size)
        self._blocks.append(block)
        return block

    def _upload(self, places: Mapping[bytes, int]) -> None:
        buffers = UploadBuffers(self._resources, max(1, *map(len, places)), lambda done: None)
        try:
            for data, address in places.items():
                buffers.upload(address, np.frombuffer(data, np.uint8))
            buffers.finish()
        finally:
            buffers.close()


def _room(data: bytes) -> int:
    """Bytes from one constant to the next; every one has an address of its own."""
    return max(1, -(-len(data) // ALIGNMENT)) * ALIGNMENT
