"""The memory for the times that kernels note: a record for each CTA of each node (``timeline.cuh``).

Layout: the nodes' regions follow each other in launch order. A region has a record for each CTA, in the order of the
grid (x runs fastest). A record is five 64-bit words: when the CTA started, when its wait returned, when it triggered,
when it ended (``%globaltimer``, nanoseconds), and the SM that it ran on. A time that is zero was not noted: the kernel
has no such step, or did not run. Of a node that runs several times in a replay, the last time counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.runtime.cuda.codegen.build import Code
from forerun.runtime.cuda.codegen.unit import TIMELINE
from forerun.runtime.cuda.driver.driver import Driver
from forerun.runtime.cuda.memory.memory import Block

__all__ = ["WORDS", "Timestamps", "regions_of"]

WORDS = 5
"""Words of a record; ``STAMP_WORDS`` in timeline.cuh."""


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
    """The records of a program, in regions as :func:`regions_of` gives them."""

    def __init__(self, driver: Driver, block: Block, regions: Mapping[str, tuple[int, int]]) -> None:
        self._driver = driver
        self._block = block
        self._regions = regions

    @property
    def addresses(self) -> dict[str, int]:
        """The address of the first record of each node."""
        return {path: self._block.address + start for path, (start, _) in self._regions.items()}

    def clear(self, stream: Any) -> None:
        """Forget all times, in the order of a stream: before a replay, so that nothing is left of the one before."""
        self._driver.call("cuMemsetD8Async", self._block.address, 0, self._block.size, stream)

    def read(self) -> dict[str, NDArray[np.uint64]]:
        """The records of each node, ``[CTAs, 5]``. Nothing may be in flight."""
        words = np.zeros(self._block.size // 8, np.uint64)
        self._driver.call("cuMemcpyDtoH", words.__array_interface__["data"][0], self._block.address, words.nbytes)
        found = {}
        for path, (start, count) in self._regions.items():
            found[path] = words[start // 8 : start // 8 + count * WORDS].reshape(count, WORDS)
        return found
