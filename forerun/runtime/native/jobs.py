"""Calls of machine code as one job: its threads go from call to call, and no Python runs in between."""

from __future__ import annotations

import ctypes
import time
import weakref
from collections.abc import Mapping, Sequence

from forerun.ir.graph import Graph
from forerun.ir.nodes import KernelNode
from forerun.runtime.native.kernels import native_call, native_pool

__all__ = ["Job", "JobServer", "job_of"]

_AHEAD_NS = 40_000
"""How long before the expected time of a call the pool's threads are woken: waking 15 of them took 20 us."""

_ALERT_NS = 100_000
"""For how long they look for the call, from then on, before they sleep again."""


class Job:
    """Some calls, each of which needs some of those before it to be complete.

    Args:
        names: What the calls are called.
        calls: Their machine code, and the address of their arguments.
        needed: How many of the calls before it each one needs.
        kept: What has to live as long as the job.
    """

    def __init__(self, names: Sequence[str], calls: Sequence[tuple[int, int]], needed: Sequence[int], kept: object):
        pool = native_pool()
        assert pool is not None
        self._names, self._kept, self._pool = names, kept, pool
        count = len(names)
        self._times = (ctypes.c_long * (2 * count))()
        entries, arguments = ((ctypes.c_void_p * count)(*column) for column in zip(*calls, strict=True))
        made = pool.library.job_create(count, entries, arguments, (ctypes.c_int * count)(*needed), self._times)
        self.handle: int = made
        weakref.finalize(self, pool.library.job_destroy, made)

    def run(self) -> None:
        """Do it, and return when all of it is done."""
        self._pool.library.job_run(self._pool.handle, self.handle)

    @property
    def times(self) -> Mapping[str, tuple[int, int]]:
        """When each call began and ended the last time, in nanoseconds of :func:`time.perf_counter_ns`."""
        return {name: (self._times[2 * i], self._times[2 * i + 1]) for i, name in enumerate(self._names)}


def job_of(graph: Graph, names: Sequence[str], addresses: Mapping[str, int]) -> Job | None:
    """Kernel nodes of a graph as a job; ``None`` if there is no machine code for some of them.

    Args:
        graph: A valid graph.
        names: The nodes, in launch order. All their buffers lie in the host's memory.
        addresses: Where, by buffer.

    Raises:
        InternalError: If the compiler refuses a kernel's code.
    """
    calls = []
    for name in names:
        node = graph.nodes[name]
        call = native_call(graph, node, addresses) if isinstance(node, KernelNode) else None
        if call is None:
            return None
        calls.append(call)
    position = {name: i for i, name in enumerate(names)}
    needed = [
        max((position[d.source] + 1 for d in graph.incoming(name) if d.source in position), default=0) for name in names
    ]
    return Job(names, [(call.entry, call.arguments) for call in calls], needed, calls)


class JobServer:
    """Does jobs as the device calls for them, by a word in the host's memory for each.

    Args:
        jobs: The jobs; ``None`` for what somebody else does.
        words: The address of the first word.
        step: How many words further the next job's word is.
        answer: How many words further the word for the answer is.

    Attributes:
        is_native: Whether there is any job at all.
    """

    def __init__(self, jobs: Sequence[Job | None], words: int, step: int, answer: int) -> None:
        self._jobs = tuple(jobs)
        self._handles = (ctypes.c_void_p * len(jobs))(*(None if job is None else job.handle for job in jobs))
        self._left = (ctypes.c_int * len(jobs))()
        self._given = self._left, len(jobs), words, step, answer
        self._seen, self._alert = (ctypes.c_long * 1)(), (ctypes.c_long * 1)()
        pool = native_pool() if any(jobs) else None
        self.is_native = pool is not None
        if pool is not None:
            self._serve, self._pool = pool.library.jobs_serve, pool.handle

    @property
    def seen(self) -> float:
        """When the device was seen to call first, in the last :meth:`serve`, by :func:`time.perf_counter`."""
        return self._seen[0] / 1e9

    def expect(self, seconds: float) -> None:
        """Say when the next call usually comes, so that the threads are awake then.

        Args:
            seconds: From now on; 0 if nobody knows.
        """
        self._alert[0] = time.perf_counter_ns() + int(1e9 * seconds) - _AHEAD_NS if seconds else 0

    @property
    def is_expecting(self) -> bool:
        """Whether threads are still to be woken for the call of :meth:`expect`."""
        return bool(self._alert[0])

    def serve(self, left: set[int], nanoseconds: int) -> int:
        """Do jobs until all are done, until another one than a job is called for, or for some time without a call.

        Args:
            left: The numbers of those that are to be done; those that were are taken out.
            nanoseconds: For how long it looks at the words without a call.

        Returns:
            The number of what was called for and is not a job, or -1.
        """
        mine = self._left
        for number in range(len(mine)):
            mine[number] = number in left
        times = nanoseconds, self._seen, self._alert, _ALERT_NS
        found: int = self._serve(self._pool, self._handles, *self._given, *times)
        left.intersection_update([number for number, is_left in enumerate(mine) if is_left])
        return found

    def times(self) -> dict[str, tuple[int, int]]:
        """When the calls of all jobs began and ended the last time."""
        return {name: times for job in self._jobs if job is not None for name, times in job.times.items()}
