"""One CUDA graph that hands over to the host and back through two words in pinned memory per host segment.

Nothing is launched in between, and no thread has to be woken: the caller's thread sleeps, polls the words near the
expected end of each wait, does the host's work, and writes the answer. In place of each host segment, the graph has a
kernel that writes one word, waits for the other one, and clears that; it makes small copies of the segment, too.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

from forerun.runtime.cuda.codegen.hand_over import HAND_OVER_COPIES, HAND_OVER_THREADS
from forerun.runtime.cuda.driver import nodeparams
from forerun.runtime.cuda.driver.errors import CudaError
from forerun.runtime.cuda.driver.waiting import EventWait, PatientWait
from forerun.runtime.cuda.emit.handing_over import HandOver
from forerun.runtime.cuda.emit.hostcalls import HostCalls
from forerun.runtime.cuda.memory.memory import Memory
from forerun.runtime.cuda.memory.resources import NO_TIMING, Resources
from forerun.runtime.native.jobs import Job, JobServer

__all__ = ["SignalledGraph", "Signals"]

_LINE = 128
"""The distance between the words of two segments, in bytes."""

_LOOKS = 64
"""The number of polls of the words between two queries of the driver whether the replay has failed."""

_LOOK_NS = 20_000
"""For how long machine code polls the words at once; that counts as some polls."""

_LOOKS_AT_ONCE = 8

_WORK = struct.Struct(f"<QQII{4 * HAND_OVER_COPIES}Q")
"""``HandOver`` of hand_over.py: the words, the numbers of copies, and the copies."""


class Signals:
    """The words of all host segments, and the kernel nodes that write and read them.

    Args:
        memory: The allocator of the words.
        function: The kernel of :mod:`~forerun.runtime.cuda.codegen.hand_over`.
        work: What the node in place of each segment does, by its path.
        times: Where each copy is to note its times, by path.

    Attributes:
        nodes: The parameters of these nodes, by path.
        address: The address of the first word.

    Raises:
        CudaError: If there is not enough memory.
    """

    step = _LINE // 4
    """The number of words from one segment's to the next one's."""

    to_answer = _LINE // 8
    """The number of words from a segment's call to its answer."""

    def __init__(self, memory: Memory, function: int, work: Mapping[str, HandOver], times: Mapping[str, int]) -> None:
        self._block = block = memory.allocate(_LINE * len(work), "the words of host and device", pinned=True)
        self.address = block.address
        self.clear()
        self._words = memoryview((ctypes.c_uint8 * block.size).from_address(block.address)).cast("B").cast("I")
        self._kept: list[Any] = []
        self.nodes: Mapping[str, bytes] = {
            path: self._node(function, block.address + _LINE * i, handed, memory, times)
            for i, (path, handed) in enumerate(work.items())
        }

    def _node(self, function: int, called: int, handed: HandOver, memory: Memory, times: Mapping[str, int]) -> bytes:
        copies = [
            (*(memory.address(name) + offset for name, offset in (one.source, one.destination)), one.size,
             times.get(one.path, 0))
            for one in (*handed.before, *handed.after)
        ]  # fmt: skip
        copies += [(0, 0, 0, 0)] * (HAND_OVER_COPIES - len(copies))
        text = _WORK.pack(called, called + _LINE // 2, len(handed.before), len(handed.after), *chain(*copies))
        value = ctypes.create_string_buffer(text, len(text))
        pointers = (ctypes.c_uint64 * 1)(ctypes.addressof(value))
        self._kept.append((value, pointers))
        words = max((one.size for one in (*handed.before, *handed.after)), default=0) // 16
        threads = min(HAND_OVER_THREADS, max(32, -(-words // 32) * 32))
        return nodeparams.kernel(function, (1, 1, 1), (threads, 1, 1), 0, ctypes.addressof(pointers))

    def called(self, numbers: Iterable[int]) -> list[int]:
        """The segments, among those given, for which the device waits."""
        words, step = self._words, self.step
        return [number for number in numbers if words[number * step]]

    def begin(self, number: int) -> None:
        """Clear the call of a segment, before its work begins."""
        self._words[number * self.step] = 0

    def answer(self, number: int) -> None:
        """Let the device continue after a segment."""
        self._words[number * self.step + self.to_answer] = 1

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
        jobs: The same as jobs of machine code; ``None`` for segments for which there is none.
        calls: What keeps the failure of a call, and notes when calls began and ended.

    Raises:
        CudaError: If the driver fails.
    """

    def __init__(
        self,
        resources: Resources,
        executable: Any,
        signals: Signals,
        work: Sequence[Sequence[Callable[[], None]]],
        jobs: Sequence[Job | None],
        calls: HostCalls,
    ) -> None:
        self._resources, self._driver = resources, resources.driver
        self._executable, self._signals, self._work = executable, signals, work
        event = resources.driver.call("cuEventCreate", NO_TIMING)
        self._end = EventWait(resources.driver, resources.scope.own("event", event, "cuEventDestroy"))
        self._calls, self._jobs = calls, jobs
        self._server = server = JobServer(jobs, signals.address, signals.step, signals.to_answer)
        ended = (lambda: server.seen) if server.is_native else None
        self._waits = [PatientWait(self._is_called, ended=ended) for _ in work]
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
                wait = self._waits[len(self._work) - len(self._left)]
                self._server.expect(wait.usual)
                wait.wait()
                for number in self._signals.called(self._left):
                    if self._jobs[number] is None or self._calls.has_failed:
                        self._do(number)
            if self._calls.times is not None:
                self._calls.times.update(self._server.times())
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
        """Whether the device has called; what is machine code is done already then."""
        if self._looks >= _LOOKS:
            self._looks = 0
            self._end.is_over()
        self._looks += 1
        if not self._server.is_native or self._calls.has_failed:
            return bool(self._signals.called(self._left))
        self._looks += _LOOKS_AT_ONCE - 1
        count = len(self._left)
        return self._server.serve(self._left, _LOOK_NS) >= 0 or len(self._left) < count

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
