"""The memory for the times that kernels note: a record for each CTA of each node (``timeline.cuh``).

Layout: the nodes' regions follow each other in launch order. A region has a record for each CTA, in the order of the
grid (x runs fastest). A record is five 64-bit words: when the CTA started, when its wait returned, when it triggered,
when it ended (``%globaltimer``, nanoseconds), and the SM that it ran on. A time that is zero was not noted: the kernel
has no such step, or did not run. Of a node that runs several times in a replay, the last time counts. Behind the
records are two words for each copy, when it began and ended, and one to compare the clocks of GPU and host.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.runtime.cuda.codegen.build import Code
from forerun.runtime.cuda.codegen.unit import TIMELINE
from forerun.runtime.cuda.driver.driver import Driver
from forerun.runtime.cuda.emit.arguments import Words
from forerun.runtime.cuda.memory.memory import Memory

__all__ = ["WORDS", "Timestamps", "regions_of"]

WORDS = 5
"""Words of a record; ``STAMP_WORDS`` in timeline.cuh."""


_LOOKS = 7


def regions_of(code: Code) -> dict[str, tuple[int, int]]:
    """Where the records of each node begin, in bytes, and how many there are, by the node's path.

    Nodes that run foreign code have none.
    """
    regions, end = {}, 0
    for path, number in code.unit_of.items():
        unit = code.units[number]
        if any(slot.parameter == TIMELINE for slot in unit.slots):
            regions[path] = end, math.prod(unit.launch.grid)
            end += 8 * WORDS * regions[path][1]
    return regions


class Timestamps:
    """The records of a program.

    Args:
        driver: Where it runs.
        memory: What the records are allocated from.
        regions: Where the records of the kernel nodes are, as :func:`regions_of` gives them.
        copies: The paths of the copies that note their times.
        stamp: The kernel of :mod:`~forerun.runtime.cuda.codegen.stamp`; 0 if nothing but kernels notes times.

    Raises:
        CudaError: If there is not enough memory.
    """

    def __init__(
        self,
        driver: Driver,
        memory: Memory,
        regions: Mapping[str, tuple[int, int]],
        copies: Sequence[str],
        stamp: int,
    ) -> None:
        self._driver = driver
        self._regions = regions
        self._stamp = stamp
        self._copies_at = 8 * WORDS * sum(count for _, count in regions.values())
        self._block = block = memory.allocate(self._copies_at + 16 * len(copies) + 8, "the times of all nodes")
        self.copies = {path: block.address + self._copies_at + 16 * i for i, path in enumerate(copies)}
        self._clock = block.address + block.size - 8
        self._words = Words(self._clock)

    @property
    def addresses(self) -> dict[str, int]:
        """The address of the first record of each node."""
        return {path: self._block.address + start for path, (start, _) in self._regions.items()}

    def clear(self, stream: Any) -> None:
        """Forget all times, in the order of a stream: before a replay, so that nothing is left of the one before."""
        self._driver.call("cuMemsetD8Async", self._block.address, 0, self._block.size, stream)

    def read(self) -> dict[str, NDArray[np.uint64]]:
        """The records of each kernel node, ``[CTAs, 5]``. Nothing may be in flight."""
        words = self._read(self._block.address, self._block.size)
        found = {}
        for path, (start, count) in self._regions.items():
            found[path] = words[start // 8 : start // 8 + count * WORDS].reshape(count, WORDS)
        return found

    def read_copies(self) -> dict[str, tuple[int, int]]:
        """When each copy began and ended, of those that ran. Nothing may be in flight."""
        if not self.copies:
            return {}
        words = self._read(self._block.address + self._copies_at, 16 * len(self.copies)).reshape(-1, 2)
        return {p: (int(a), int(b)) for p, (a, b) in zip(self.copies, words, strict=True) if a and b}

    def clock_offset(self, stream: Any) -> tuple[int, int]:
        """What to add to the host's :func:`time.perf_counter_ns` to get the GPU's time, and how far off that may be.

        The host looks at its clock before and after the GPU does, a few times; the closest look counts.

        Raises:
            CudaError: If the driver fails.
        """
        best = 0, 1 << 62
        for _ in range(_LOOKS if self._stamp else 0):
            before = perf_counter_ns()
            given = (1, 1, 1, 1, 1, 1, 0, stream, self._words.address, 0)
            self._driver.call("cuLaunchKernel", self._stamp, *given)
            self._driver.call("cuStreamSynchronize", stream)
            after = perf_counter_ns()
            if after - before < 2 * best[1]:
                (now,) = self._read(self._clock, 8)
                best = int(now) - (before + after) // 2, (after - before + 1) // 2
        return best

    def _read(self, address: int, size: int) -> NDArray[np.uint64]:
        words = np.zeros(size // 8, np.uint64)
        self._driver.call("cuMemcpyDtoH", words.__array_interface__["data"][0], address, size)
        return words
