"""Weights on their way to the device: through two pinned buffers, so that copying and uploading overlap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forerun.ir.buffer import Buffer
from forerun.ir.graph import Graph
from forerun.ir.types import BufferRole
from forerun.runtime.constants import held_constants
from forerun.runtime.cuda.driver.errors import CudaError
from forerun.runtime.cuda.driver.scope import Scope
from forerun.runtime.cuda.memory.external import bind_array, is_device_array
from forerun.runtime.cuda.memory.memory import Memory
from forerun.runtime.cuda.memory.resources import NO_TIMING, Resources
from forerun.runtime.dtypes import array_at, bytes_at
from forerun.runtime.values import check_weights, weight_array, weight_value

__all__ = ["Progress", "UploadBuffers", "upload_weights"]

Progress: TypeAlias = Callable[[int, int], None]
"""Called with how many bytes of the weights are on their way, and how many there are."""

_CHUNK = 16 << 20


def upload_weights(
    resources: Resources, memory: Memory, graph: Graph, weights: Mapping[str, ArrayLike], progress: Progress | None
) -> None:
    """Bring all weights to where the graph reads them. Arrays on the device stay where they are, if they can.

    Constants that are in memory stay there, too, until the program's work is over.

    Each weight is looked up once, and let go before the next. The program's stream orders the copies, and is drained in
    the end; ``progress`` is called after every weight and every chunk.

    Raises:
        InvalidInput: If a weight is missing, unknown, or does not fit.
        CudaError: If the driver fails.
    """
    check_weights(graph, weights)
    resources.constants = held_constants(graph, weights)
    memory.share({name: held.place for name, held in resources.constants.items()})
    weighing = (buffer for buffer in graph.buffers.values() if buffer.role is BufferRole.WEIGHT)
    declared = [buffer for buffer in weighing if buffer.name not in resources.constants]
    if not declared:
        return
    total = sum(buffer.size for buffer in declared)
    report = progress or (lambda done, total: None)
    buffers = UploadBuffers(resources, min(_CHUNK, total), lambda done: report(done, total))
    try:
        for buffer in declared:
            _bring(resources, memory, buffer, weight_value(buffer, weights), buffers)
        buffers.finish()
    finally:
        buffers.close()


def _bring(resources: Resources, memory: Memory, buffer: Buffer, value: Any, buffers: UploadBuffers) -> None:
    if not is_device_array(value):
        array = weight_array(buffer, value)
        if memory.is_on_host(buffer.name):
            array_at(buffer, memory.address(buffer.name))[...] = array
            buffers.advance(buffer.size)
        else:
            buffers.upload(memory.place_weight(buffer), array)
        return
    found = bind_array(f"weight '%{buffer.name}'", buffer, value, resources)
    if not memory.adopt_weight(buffer, found):
        place = memory.place_weight(buffer)
        resources.driver.call("cuMemcpyDtoDAsync", place, found.address, buffer.size, resources.stream)
        buffers.keep(found)
    buffers.advance(buffer.size)


class UploadBuffers:
    """Two pinned buffers. While one is uploaded, the other is filled.

    ``size`` is the bytes of each; ``report`` is called with the number of bytes that are on their way.
    """

    def __init__(self, resources: Resources, size: int, report: Callable[[int], None]) -> None:
        self._stream = resources.stream
        self._scope = resources.scope
        self._size = size
        self._report = report
        self._done = 0
        self._kept: list[Any] = []
        self._pending = True
        self._slots: list[_Slot] = []  # the one whose turn it is comes first

    def upload(self, destination: int, array: NDArray[Any]) -> None:
        """Upload a weight; the caller's array may be dropped afterwards."""
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        for start in range(0, data.size, self._size):
            self._send(destination + start, data[start : start + self._size])

    def advance(self, size: int) -> None:
        """Count bytes that are on their way."""
        self._done += size
        self._report(self._done)

    def keep(self, array: Any) -> None:
        """Keep an array alive until the uploads are done."""
        self._kept.append(array)

    def finish(self) -> None:
        """Wait until everything has arrived."""
        if self._pending:
            self._scope.driver.call("cuStreamSynchronize", self._stream)
        self._pending = False
        self._kept.clear()

    def close(self) -> None:
        """Give the buffers back, after an error too."""
        with suppress(CudaError):
            self.finish()
        while self._slots:
            slot = self._slots.pop()
            self._scope.release_one(slot.event)
            self._scope.release_one(slot.handle)

    def _send(self, destination: int, data: NDArray[np.uint8]) -> None:
        slot = self._next()
        driver = self._scope.driver
        slot.view[: data.size] = data
        driver.call("cuMemcpyHtoDAsync", destination, int(slot.handle), data.size, self._stream)
        driver.call("cuEventRecord", slot.event, self._stream)
        self.advance(data.size)

    def _next(self) -> _Slot:
        """The buffer whose turn it is, once its upload is done."""
        if len(self._slots) < 2:
            slot = _Slot(self._scope, self._size)
        else:
            self._scope.driver.call("cuEventSynchronize", self._slots[0].event)
            slot = self._slots.pop(0)
        self._slots.append(slot)
        return slot


class _Slot:
    """A pinned buffer, and the event of its last upload."""

    def __init__(self, scope: Scope, size: int) -> None:
        self.handle = scope.own("pinned", scope.driver.call("cuMemHostAlloc", size, 0), "cuMemFreeHost")
        self.event = scope.own("event", scope.driver.call("cuEventCreate", NO_TIMING), "cuEventDestroy")
        self.view = bytes_at(int(self.handle), size)
