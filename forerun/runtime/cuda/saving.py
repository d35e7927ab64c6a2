"""A copy of the state that a replay writes, made before it, and restored if one of its host functions raises."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.ir.graph import Graph
from forerun.ir.semantics.written_state import WrittenRange
from forerun.runtime.cuda.codegen.saved_state import FAILED_WORDS, SAVE_WORDS
from forerun.runtime.cuda.driver import nodeparams
from forerun.runtime.cuda.emit.arguments import Words
from forerun.runtime.cuda.memory.memory import Memory
from forerun.runtime.cuda.memory.resources import Resources
from forerun.runtime.dtypes import bytes_at

__all__ = ["SavedState"]

_CHUNK = 1 << 16
"""The bytes that a CTA copies at a time."""

_CTAS, _THREADS = 1024, 256


class SavedState:
    """A copy of the state that a replay writes, made on the device at the start of each replay.

    If the host has set words because the previous replay failed, the kernel undoes that replay before it copies.

    Args:
        resources: The owner of the copy, which is in device memory; the words are in pinned host memory.
        graph: The graph that is replayed.
        memory: The memory of its state, on the device or on the host.
        ranges: The bytes of state that a replay writes; not empty.
        function: The kernel of :mod:`~forerun.runtime.cuda.codegen.saved_state`.

    Attributes:
        ranges: The bytes of state that a replay writes.
        failed: Words that are nonzero from the time a host function raises until the error is reported.
        size_bytes: Bytes of state that are copied before each replay.

    Raises:
        CudaError: If there is not enough memory.
    """

    def __init__(
        self, resources: Resources, graph: Graph, memory: Memory, ranges: Sequence[WrittenRange], function: int
    ) -> None:
        self.ranges = tuple(ranges)
        self.size_bytes = sum(r.size for r in ranges)
        self._driver = driver = resources.driver
        self._function = function
        room = sum(-(-r.size // 16) * 16 for r in ranges)
        count = sum(-(-r.size // _CHUNK) for r in ranges)
        self._grid = min(count, _CTAS), 1, 1
        words = memory.allocate(4 * FAILED_WORDS * self._grid[0], "whether a host function has raised", pinned=True)
        self.failed: NDArray[np.uint32] = bytes_at(words.address, words.size).view(np.uint32)
        self.failed.fill(0)
        size = 8 * ((SAVE_WORDS + 1) * count + 1)
        block = memory.allocate(room + size, "a copy of the state that a replay writes")
        rows = np.zeros(size // 8, np.int64)
        rows[: SAVE_WORDS * count] = np.ravel([*_rows(graph, memory, ranges, block.address)])
        table = block.address + room
        driver.call("cuMemcpyHtoD", table, rows.__array_interface__["data"][0], size)
        moved = table + 8 * SAVE_WORDS * count
        given = table, moved, count, moved + 8 * count, words.address
        self._arguments = [Words(*given, put_back) for put_back in (0, 1)]

    @property
    def node(self) -> bytes:
        """The parameters of the kernel node that makes the copy."""
        block = _THREADS, 1, 1
        return nodeparams.kernel(self._function, self._grid, block, 0, self._arguments[0].address)

    @property
    def launch(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The arguments of ``cuLaunchKernel`` before and after the stream, to make the copy."""
        return self._launch_of(0)

    def save(self, stream: Any) -> None:
        """Enqueue the copy on a stream; no replay may be in flight on another one.

        Raises:
            CudaError: If the driver refuses.
        """
        before, after = self.launch
        self._driver.call("cuLaunchKernel", *before, stream, *after)

    def put_back(self, stream: Any) -> None:
        """Restore the state from before the failed replay. Nothing may be in flight.

        Raises:
            CudaError: If the driver refuses.
        """
        before, after = self._launch_of(1)
        self._driver.call("cuLaunchKernel", *before, stream, *after)

    def _launch_of(self, put_back: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (self._function, *self._grid, _THREADS, 1, 1, 0), (self._arguments[put_back].address, 0)


def _rows(graph: Graph, memory: Memory, ranges: Sequence[WrittenRange], room: int) -> Iterator[tuple[int, ...]]:
    """The rows of the kernel's table: chunks of the ranges, each with the address of its copy."""
    for written in ranges:
        base = memory.allocation_address(written.allocation)
        element, size, stride = 0, 0, 0
        if written.element is not None:
            buffer = graph.buffers[written.element.buffer]
            size = -buffer.dtype.itemsize if buffer.dtype.is_signed else buffer.dtype.itemsize
            element = memory.address(buffer.name) + written.element.index * buffer.dtype.itemsize
            stride = written.element.stride
        low, high = (base + bound for bound in written.bounds)
        for start in range(0, written.size, _CHUNK):
            length = min(_CHUNK, written.size - start)
            yield base + written.start + start, room + start, length, element, size, stride, low, high
        room += -(-written.size // 16) * 16
