"""The ceiling: how fast a GPU reads memory that is in no cache."""

from __future__ import annotations

import statistics
from typing import Any

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.nodes import Launch
from forerun.ir.types import DType
from forerun.kernels import read_all
from forerun.runtime.base import Target

__all__ = ["BYTES", "read_bandwidth", "reading_graph"]

BYTES = 1 << 31
"""How much is read: large enough that a launch and the last CTAs do not count (0.3 % on an H100)."""

_WORDS = 1 << 14
"""Words of four bytes in a row: 64 KB a CTA at a time, so that all SMs are done at about the same time."""

_REPLAYS, _SAMPLES = 4, 7


def reading_graph(size: int = BYTES) -> Graph:
    """One kernel that reads a number of bytes once."""
    rows = max(1, size // (4 * _WORDS))
    builder = GraphBuilder("reading")
    x, y = builder.state("x", DType.I32, (rows, _WORDS)), builder.output("y", DType.I32, (rows,))
    builder.launch(read_all.KERNEL, x=x, y=y, launch=Launch((rows, 1, 1), (256, 1, 1)))
    return builder.build()


def read_bandwidth(target: Target, size: int = BYTES) -> float:
    """Bytes a second that a GPU reads, the median of some replays.

    The bytes that are read must fit beside what is loaded already.

    Raises:
        Unsupported: If there is no GPU.
        CudaError: If there is not enough memory.
    """
    graph = reading_graph(size)
    program: Any = target.load(graph, {})
    try:
        samples = [program.seconds_per_replay(_REPLAYS) for _ in range(_SAMPLES)][1:]
    finally:
        program.close()
    seconds: float = statistics.median(samples)
    return graph.buffers["x"].size / seconds
