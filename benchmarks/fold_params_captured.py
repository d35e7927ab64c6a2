"""A program that uploads five parameter arrays before each kernel from pinned memory, captured by CuPy."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from typing import Any

import forerun

__all__ = ["measured_capture"]

KERNELS, ARRAYS, WIDTH = 200, 5, 1 << 16
ROUNDS, REPLAYS = 15, 20
SOURCE = """
extern "C" __global__ void scale(const float* __restrict__ x, float* __restrict__ y, const int* __restrict__ dims,
                                 const int* __restrict__ xstep, const int* __restrict__ ystep,
                                 const int* __restrict__ options, const float* __restrict__ factor) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < dims[0]) y[i * ystep[0]] = options[0] ? x[i * xstep[0]] * factor[0] : x[i * xstep[0]];
}
"""


class Program:
    """The chain, with its memory, and its graph with or without the copies."""

    def __init__(self, cupy: Any, kernel: Any, *, uploads: bool) -> None:
        import numpy as np

        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.vectors = [cupy.zeros(WIDTH, cupy.float32) for _ in range(2)]
        host, device = [], []
        for number in range(KERNELS):
            values = [np.array([one], np.int32) for one in (WIDTH, 1, 1, 1)]
            values.append(np.array([1.0 + (number % 7 - 3) / 64], np.float32))
            host.append([self._pinned(cupy, value) for value in values])
            device.append([cupy.asarray(value) for value in values])
        self.kept = host, device, kernel
        cupy.cuda.Device().synchronize()
        with self.stream:
            self.stream.begin_capture()
            for number in range(KERNELS):
                if uploads:
                    for target, source in zip(device[number], host[number], strict=True):
                        # CuPy's own copies refuse a stream that is capturing; the runtime's do not.
                        cupy.cuda.runtime.memcpyAsync(
                            target.data.ptr, source.ctypes.data, source.nbytes, 1, self.stream.ptr
                        )
                x, y = self.vectors[number % 2], self.vectors[(number + 1) % 2]
                kernel((WIDTH // 256,), (256,), (x, y, *device[number]))
            self.graph = self.stream.end_capture()

    def _pinned(self, cupy: Any, value: Any) -> Any:
        import numpy as np

        memory = cupy.cuda.alloc_pinned_memory(value.nbytes)
        array = np.frombuffer(memory, value.dtype, value.size)
        array[...] = value
        return array

    def replay(self) -> None:
        """Its own."""
        self.graph.launch(self.stream)

    def result(self, replay: Callable[[], None], cupy: Any) -> bytes:
        """What a replay makes of the same input."""
        self.vectors[0][...] = cupy.arange(WIDTH, dtype=cupy.float32)
        cupy.cuda.Device().synchronize()
        replay()
        cupy.cuda.Device().synchronize()
        return bytes(self.vectors[KERNELS % 2].tobytes())


def measured_capture() -> dict[str, Any]:
    """Copies before and after, times and ratios, and whether the bits are the same."""
    os.environ["CUPY_CACHE_IN_MEMORY"] = "1"
    with forerun.capture() as session:
        import cupy

        kernel = cupy.RawModule(code=SOURCE, options=("-std=c++17",)).get_function("scale")
        program, resident = (Program(cupy, kernel, uploads=uploads) for uploads in (True, False))
        folded = forerun.optimize(session.graph(program.graph), pipeline="", fold_params=True)
        before = sum(node.kind == "memcpy" for node in folded.live.graph.nodes)
        replay = {
            "as it is": program.replay,
            "folded": lambda: folded.replay(program.stream),
            "without copies": resident.replay,
        }
        expected = program.result(program.replay, cupy)
        same = program.result(replay["folded"], cupy) == expected == resident.result(resident.replay, cupy)
        times: dict[str, list[float]] = {name: [] for name in replay}
        for number in range(ROUNDS):
            for name in list(replay) if number % 2 == 0 else list(reversed(replay)):
                times[name].append(_microseconds(cupy, program if name != "without copies" else resident, replay[name]))
        medians = {name: statistics.median(found) for name, found in times.items()}
        report = {
            "before": before,
            "after": before - len(folded.folded),
            "kept": sorted(set(folded.kept_copies.values())),
            "changed": folded.changed_sources(),
            "identical": same,
            "us": medians,
            "speedup": medians["as it is"] / medians["folded"],
            "vs_written_without": medians["folded"] / medians["without copies"],
        }
        folded.close()
        return report


def _microseconds(cupy: Any, program: Program, replay: Callable[[], None]) -> float:
    begin, end = cupy.cuda.Event(), cupy.cuda.Event()
    replay()
    begin.record(program.stream)
    for _ in range(REPLAYS):
        replay()
    end.record(program.stream)
    end.synchronize()
    return 1e3 * float(cupy.cuda.get_elapsed_time(begin, end)) / REPLAYS
