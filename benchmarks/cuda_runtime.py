"""The CUDA runtime itself: what it takes to emit and to launch, and whether anything leaks.

- ``emit.nodes_2000_ms``: a decode graph of 2,000 nodes, after the pipeline `exact`, made a CUDA graph (the driver's
  instantiate is measured apart).
- ``launch.overhead_us``: a launch through a program against a bare ``cuGraphLaunch`` through the bindings, A B B A.
- ``soak.*``: very many replays, and programs made and destroyed; how much device and host memory is gone afterwards.
"""

from __future__ import annotations

import argparse
import gc
import time
from pathlib import Path

import numpy as np
from common import Metric, bootstrap_median, paired, write_result

from forerun.cli.random_values import GraphWeights
from forerun.frontends.decode import decode_graph, synthetic_decode_graph
from forerun.frontends.llama import LlamaConfig
from forerun.frontends.random_weights import RandomWeights
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.types import DType
from forerun.kernels.builtin import KERNELS
from forerun.passes.infra.manager import PassManager
from forerun.passes.infra.pipeline import Pipeline
from forerun.runtime.cuda.driver.driver import driver
from forerun.runtime.cuda.program import CudaProgram
from forerun.runtime.cuda.target import CudaTarget

TINY = LlamaConfig("tiny", 2, 64, 4, 2, 16, 128, 256, 512)


def optimized(graph: Graph) -> Graph:
    return PassManager(Pipeline.parse("exact")).run(graph).graph


def measure_emit(rounds: int) -> dict[str, Metric]:
    graph = optimized(synthetic_decode_graph(2000, steps=10, context=64))
    weights = GraphWeights(graph)
    emits, instantiates = [], []
    for _ in range(rounds):
        program = CudaTarget().load(graph, weights)
        emits.append(1e3 * program.emit_seconds)
        instantiates.append(1e3 * program.instantiate_seconds)
        program.close()
    print(f"emitted {len(graph)} nodes, {len(graph.dependencies)} dependencies")
    return {
        "emit.nodes_2000_ms": bootstrap_median(emits, "ms"),
        "emit.instantiate_2000_ms": bootstrap_median(instantiates, "ms"),
    }


def small_program() -> CudaProgram:
    make = GraphBuilder("small")
    x = make.input("x", DType.F32, (256,))
    for number in range(4):
        y = make.temp(f"t{number}", DType.F32, (256,)) if number < 3 else make.output("y", DType.F32, (256,))
        make.launch(KERNELS["copy_f32"], x=x, y=y)
        x = y
    return CudaTarget().load(optimized(make.build()), {})


def measure_launch(rounds: int, launches: int = 50) -> dict[str, Metric]:
    """Each sample is the mean of some launches, after which the device catches up outside the timed region."""
    program = small_program()
    expected = np.arange(256, dtype=np.float32)
    assert (program.run({"x": expected})["y"] == expected).all()
    bare_launch = driver().function("cuGraphLaunch")
    executable, stream = program._executable, program._stream

    def ours() -> float:
        start = time.perf_counter()
        for _ in range(launches):
            program.launch()
        seconds = time.perf_counter() - start
        program.synchronize()
        return 1e6 * seconds / launches

    def bare() -> float:
        start = time.perf_counter()
        for _ in range(launches):
            bare_launch(executable, stream)
        seconds = time.perf_counter() - start
        program.synchronize()
        return 1e6 * seconds / launches

    our_us, bare_us = paired(ours, bare, rounds)
    program.close()
    differences = [a - b for a, b in zip(our_us, bare_us, strict=True)]
    return {
        "launch.overhead_us": bootstrap_median(differences, "us"),
        "launch.bare_us": bootstrap_median(bare_us, "us"),
    }


def device_bytes_free() -> int:
    program = small_program()  # a context, so that there is something to ask
    with program._resources.context.current():
        free, _ = driver().call("cuMemGetInfo")
    program.close()
    return int(free)


def host_bytes() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def measure_soak(launches: int, cycles: int) -> dict[str, Metric]:
    """Memory before and after, once everything has been done a few times; the context stays throughout."""
    graph = optimized(decode_graph(TINY, context=64, splits=4, argmax_parts=4))
    weights = dict(RandomWeights(TINY))
    keeper = CudaTarget().load(graph, weights)
    inputs = {"token": [1], "position": [5]}
    first = keeper.run(inputs)["logits"]

    def replay(count: int) -> None:
        for number in range(count):
            keeper.launch()
            if number % 1000 == 999:
                keeper.synchronize()
        keeper.synchronize()

    def build(count: int) -> None:
        for _ in range(count):
            program = CudaTarget().load(graph, weights)
            found = program.run(inputs)["logits"]
            assert (found == first).all(), "a fresh program says something else"
            program.close()

    replay(2000)
    build(50)
    device, host = device_bytes_free(), host_bytes()
    replay(launches)
    build(cycles)
    lost_device, lost_host = device - device_bytes_free(), host_bytes() - host
    assert (keeper.run(inputs)["logits"] == first).all(), "the replays changed the answer"
    keeper.close()
    assert not driver().handles.live(), "handles are left"

    def count(value: float, unit: str) -> Metric:
        return Metric(value, unit, value, value)

    return {
        "soak.launches": count(launches, "launches"),
        "soak.cycles": count(cycles, "programs"),
        "soak.growth_bytes": count(lost_device, "bytes"),
        "soak.host_growth_bytes": count(lost_host, "bytes"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--launches", type=int, default=100_000)
    parser.add_argument("--cycles", type=int, default=1000)
    options = parser.parse_args()
    began = time.perf_counter()
    metrics = measure_emit(options.rounds)
    metrics |= measure_launch(4 * options.rounds)
    metrics |= measure_soak(options.launches, options.cycles)
    write_result("cuda_runtime", metrics)
    print(f"{time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
