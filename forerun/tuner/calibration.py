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
from forerun.tuner.cost_model import estimate
from forerun.tuner.gpus import H100, Constants

__all__ = ["calibrate"]

_NODES = 200
_REPLAYS, _SAMPLES = 20, 9
_BOUNDARIES = {"full": "", "programmatic": "insert-pdl{trigger=end}"}
"""The constant that a chain of tiny kernels is ruled by, and the passes that make the chain so."""


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
    for name, pipeline in _BOUNDARIES.items():
        graph = PassManager(pipeline).run(_chain()).graph
        # The estimate grows by a node's worth of the constant with each boundary.
        without = estimate(graph, _with(found, name, 0.0)).seconds
        boundary = (_seconds(target, graph) - without) / (_NODES - 1)
        found = _with(found, name, max(boundary, 0.0))
    return found


def _with(constants: Constants, boundary: str, seconds: float) -> Constants:
    return replace(constants, full=seconds) if boundary == "full" else replace(constants, programmatic=seconds)


def _chain() -> Graph:
    """Tiny kernels, each of which reads what the one before wrote."""
    builder = GraphBuilder("calibration")
    shape = (32,)
    last = builder.input("x", DType.F32, shape)
    other = builder.weight("w", DType.F32, shape)
    for number in range(_NODES):
        is_last = number == _NODES - 1
        result = builder.output("y", DType.F32, shape) if is_last else builder.temp(f"t{number}", DType.F32, shape)
        builder.launch(KERNELS["add_f32"], a=last, b=other, y=result)
        last = result
    return builder.build()


def _seconds(target: DeviceTarget, graph: Graph) -> float:
    program = target.load(graph, {"w": np.zeros(32, np.float32)})
    try:
        program.run({"x": [1.0] * 32})
        return statistics.median([program.seconds_per_replay(_REPLAYS) for _ in range(_SAMPLES)][2:])
    finally:
        program.close()
