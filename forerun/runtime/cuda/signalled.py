"""One CUDA graph that hands over to the host and back through two words in pinned memory per host segment.

Nothing is launched in between, and no thread has to be woken: the caller's thread sleeps, polls the words near the
expected end of each wait, does the host's work, and writes the answer. In place of each host segment, the graph has a
node of memory operations: write one word, wait for the other one, and clear that.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from forerun.runtime.cuda.driver import nodeparams
from forerun.runtime.cuda.driver.errors import CudaError
from forerun.runtime.cuda.driver.waiting import EventWait, PatientWait
from forerun.runtime.cuda.memory.memory import Memory
from forerun.runtime.cuda.memory.resources import NO_TIMING, Resources

__all__ = ["SignalledGraph", "Signals"]

_LINE = 128
"""The distance between the words of two segments, in bytes."""

_LOOKS = 64
"""The number of polls of the words between two queries of the driver whether the replay has failed."""

_OPERATION = struct.Struct("<I4xQQI20x")
"""``CUstreamBatchMemOpParams``: the operation, the address, the value, flags, as cuda.h of CUDA 13.0 lays them out."""

_WAIT, _WRITE = 1, 2  # CU_STREAM_MEM_OP_WAIT_VALUE_32, CU_STREAM_MEM_OP_WRITE_VALUE_32
_EQUAL = 1  # CU_STREAM_WAIT_VALUE_EQ


class Signals:
    """The words of all host segments, and the memory operations on them.

    Args:
        memory: The allocator of the words.
        context: The CUDA context of the nodes.
        paths: The nodes in place of the segments.

    Attributes:
        nodes: The parameters of these nodes, by path.

    Raises:
        CudaError: If there is not enough memory.
    """

    def __init__(self, memory: Memory, context: Any, paths: Sequence[str]) -> None:
        self._block = block = memory.allocate(_LINE * len(paths), "the words of host and device", pinned=True)
        self.clear()
        self._words = memoryview((ctypes.c_uint8 * block.size).from_address(block.address)).cast("B").cast("I")
        self._step = _LINE // 4
        self._operations: list[Any] = []
        self.nodes: Mapping[str, bytes] = {
            path: self._node(block.address + _LINE * i, int(context)) for i, path in enumerate(paths)
        }

    def _node(self, called: int, context: int) -> bytes:
        answer = called + _LINE // 2
        text = b"".join(
            _OPERATION.pack(kind, address, value, flags)
            for kind, address, value, flags in (
                (_WRITE, called, 1, 0),
                (_WAIT, answer, 1, _EQUAL),
                (_WRITE, answer, 0, 0),
            )
        )
        operations = ctypes.create_string_buffer(text, len(text))
        self._operations.append(operations)
        return nodeparams.memory_operations(context, 3, ctypes.addressof(operations))

    def called(self, numbers: Iterable[int]) -> list[int]:
        """The segments, among those given, for which the device waits."""
        words, step = self._words, self._step
        return [number for number in numbers if words[number * step]]

    def begin(self, number: int) -> None:
        """Clear the call of a segment, before its work begins."""
        self._words[number * self._step] = 0

    def answer(self, number: int) -> None:
        """Let the device continue after a segment."""
        self._words[number * self._step + self._step // 2] = 1

    def clear(self) -> None:
        """Clear all calls and answers. Nothing may be in flight."""
        ctypes.memset(self._block.address, 0, self._block.size)


class SignalledGraph:
    """Launches of a CUDA graph that hands over to the host by :class:`Signals`.

    Args:
        resources: The owner of the executable.
        executable: The CUDA graph, with the nodes of ``signals``.
        signals: The words.
        work: The calls of each host segment, in the order of the signals.

    Raises:
        CudaError: If the driver fails.
    """

    def __init__(
        self, resources: Resources, executable: Any, signals: Signals, work: Sequence[Sequence[Callable[[], None]]]
    ) -> None:
        self._resources, self._driver = resources, resources.driver
        self._executable, self._signals, self._work = executable, signals, work
        event = resources.driver.call("cuEventCreate", NO_TIMING)
        self._end = EventWait(resources.driver, resources.scope.own("event", event, "cuEventDestroy"))
        self._waits = [PatientWait(self._is_called) for _ in work]
        self._left = set[int]()
        self._stream: Any = None
        self._looks = 0
        resources.until_idle.append(self)

    def launch(self, stream: Any) -> None:
        """Enqueue one replay and do its host work; returns when that is done, possibly before the device has finished.

        Raises:
            CudaError: If the driver or the device fails.
        """
        if self._left:
            self._let_go()
        self._driver.call("cuGraphLaunch", self._executable, stream)
        self._left, self._stream = set(range(len(self._work))), stream
        try:
            self._driver.call("cuEventRecord", self._end.event, stream)
            while self._left:
                self._waits[len(self._work) - len(self._left)].wait()
                for number in self._signals.called(self._left):
                    self._do(number)
        except BaseException:
            self._let_go()
            raise

    def _do(self, number: int) -> None:
        self._signals.begin(number)
        for call in self._work[number]:
            call()
        self._signals.answer(number)
        self._left.remove(number)

    def _is_called(self) -> bool:
        self._looks += 1
        if not self._looks % _LOOKS:
            self._end.is_over()
        return bool(self._signals.called(self._left))

    def _let_go(self) -> None:
        """Answer all remaining segments, for which the device would otherwise wait forever.

        If this is interrupted, the next launch does it again.
        """
        for number in self._left:
            self._signals.answer(number)
        with suppress(CudaError):  # whatever went wrong is raised already
            self._driver.call("cuEventRecord", self._end.event, self._stream)
            self._end.wait()
        self._signals.clear()
        self._left.clear()
