"""A short run on a GPU that measures what the cost model needs to know of it."""

from __future__ import annotations

import statistics
from dataclasses import replace

import numpy as np

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.types import DType
from forerun.kernels.builtin import KERNELS
from forerun.measure.bandwidth import read_bandwidth
from forerun.passes.infra.manager import PassManager
from forerun.runtime.device import DeviceTarget
from forerun.tuner.gpus import H100, Constants

__all__ = ["calibrate"]

_NODES = 200
_REPLAYS, _SAMPLES = 20, 9


def calibrate(target: DeviceTarget) -> Constants:
    """Measure a GPU: how fast it reads memory, and what full and programmatic dependencies cost. Takes some seconds.

    What a run of seconds cannot tell (how bytes ramp up, what clusters exchange) is taken from the H100, the rate into
    registers as the same part of the bandwidth.

    Raises:
        Unsupported: If there is no GPU.
    """
    bandwidth = read_bandwidth(target)
    found = replace(
        H100,
        bandwidth=bandwidth,
        of_registers=bandwidth * H100.of_registers / H100.bandwidth,
        multiprocessors=target.multiprocessors(),
    )
    full, programmatic = (_boundary(target, pipeline) for pipeline in ("", "insert-pdl{trigger=end}"))
    return replace(found, full=full, programmatic=programmatic)


def _boundary(target: DeviceTarget, pipeline: str) -> float:
    """Seconds from kernel to kernel, in a chain of kernels that do next to nothing."""
    graph = PassManager(pipeline).run(_chain()).graph
    program = target.load(graph, {"w": np.zeros(1, np.float32)})
    try:
        program.run({"x": [1.0]})
        return statistics.median([program.seconds_per_replay(_REPLAYS) for _ in range(_SAMPLES)][2:]) / _NODES
    finally:
        program.close()


def _chain() -> Graph:
    """Tiny kernels, each of which reads what the one before wrote."""
    builder = GraphBuilder("calibration")
    shape = (1,)
    last = builder.input("x", DType.F32, shape)
    other = builder.weight("w", DType.F32, shape)
    for number in range(_NODES):
        is_last = number == _NODES - 1
        result = builder.output("y", DType.F32, shape) if is_last else builder.temp(f"t{number}", DType.F32, shape)
        builder.launch(KERNELS["add_f32"], a=last, b=other, y=result)
        last = result
    return builder.build()
