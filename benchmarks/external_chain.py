"""A program that knows nothing of PDL: a chain of 81 matrix-vector products, a CuPy ``RawKernel``, captured by CuPy.

The shapes are those of a decode step of Llama-3.2-1B. Its own replay, with full edges, is the denominator; what is
written is compared byte by byte before a time counts.

    python benchmarks/external_chain.py
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import origin

import forerun

LAYERS, ROUNDS, REPLAYS = 16, 12, 10
SOURCE = """
__device__ float low(unsigned v) { return __uint_as_float(v << 16); }
__device__ float high(unsigned v) { return __uint_as_float(v & 0xffff0000u); }
__device__ float dot(unsigned a, unsigned b, float s) { return fmaf(high(a), high(b), fmaf(low(a), low(b), s)); }
__device__ unsigned short bf16(float v) { return (unsigned short)(__float_as_uint(v) >> 16); }

template <int WARPS> __device__ void gemv(const uint4* __restrict__ w, const uint4* __restrict__ x,
                                          unsigned short* __restrict__ y, int rows) {
  constexpr int kRows = 4, kGroups = 4 / WARPS;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = warp / WARPS, part = warp % WARPS;
  const int row = (blockIdx.x * kGroups + group) * kRows;
  uint4 a[kRows][8];
  for (int r = 0; r < kRows; ++r)
    for (int i = 0; i < 8; ++i) a[r][i] = w[(size_t)min(row + r, rows - 1) * WARPS * 256 + part * 256 + i * 32 + lane];
  float sum[kRows] = {};
  for (int i = 0; i < 8; ++i) {
    const uint4 b = x[part * 256 + i * 32 + lane];
    for (int r = 0; r < kRows; ++r)
      sum[r] = dot(a[r][i].x, b.x, dot(a[r][i].y, b.y, dot(a[r][i].z, b.z, dot(a[r][i].w, b.w, sum[r]))));
  }
  __shared__ float shared[4][kRows];
  for (int r = 0; r < kRows; ++r) {
    for (int o = 16; o; o /= 2) sum[r] += __shfl_xor_sync(~0u, sum[r], o);
    if (lane == 0) shared[warp][r] = sum[r];
  }
  __syncthreads();
  if (part == 0 && lane < kRows && row + lane < rows) {
    float total = 0;
    for (int p = 0; p < WARPS; ++p) total += shared[group * WARPS + p][lane];
    y[row + lane] = bf16(total * rsqrtf(WARPS * 170.0f));
  }
}
extern "C" __global__ void __launch_bounds__(128) gemv_2048(const uint4* __restrict__ w, const uint4* __restrict__ x,
                                                            unsigned short* __restrict__ y, int rows) {
  gemv<1>(w, x, y, rows);
}
extern "C" __global__ void __launch_bounds__(128) gemv_8192(const uint4* __restrict__ w, const uint4* __restrict__ x,
                                                            unsigned short* __restrict__ y, int rows) {
  gemv<4>(w, x, y, rows);
}
extern "C" __global__ void count(float* p) {
  if (threadIdx.x + blockIdx.x == 0) p[0] += 1.0f;
}
"""


_MOVED = ",hoist-loads{full_edges=false}"


def shapes() -> list[tuple[int, int, int, int]]:
    """Rows, columns, and the numbers of the vectors that each product reads and writes; no rows: the small kernel."""
    layer = [(3072, 2048, 0, 1), (0, 0, 0, 0), (2048, 2048, 1, 2), (16384, 2048, 2, 3), (2048, 8192, 3, 0)]
    return layer * LAYERS + [(128256, 2048, 0, 4)]


@dataclass
class Chain:
    """The captured program: graph and stream, what it writes, what its first vector is, and what must stay alive."""

    graph: Any
    stream: Any
    vectors: list[Any]
    counter: Any
    first: Any
    kept: Any

    def reset(self) -> None:
        import cupy

        for vector in self.vectors:
            vector.fill(0)
        self.vectors[0][: self.first.size] = self.first
        self.counter.fill(0)
        cupy.cuda.Device().synchronize()


def program() -> Chain:
    """Build the program, and let CuPy capture it."""
    import cupy

    module = cupy.RawModule(code=SOURCE, options=("-std=c++17",))
    kernels = {name: module.get_function(name) for name in ("gemv_2048", "gemv_8192", "count")}
    total = sum(rows * columns for rows, columns, _, _ in shapes())
    generator = cupy.random.default_rng(0)
    # bf16 from -0.5 to 0.5: the upper halves of float32.
    weights = cupy.empty(total, dtype=cupy.uint16)
    for begin in range(0, total, 1 << 26):
        part = generator.random(min(1 << 26, total - begin), dtype=cupy.float32) - 0.5
        weights[begin : begin + part.size] = (part.view(cupy.uint32) >> 16).astype(cupy.uint16)
    vectors = [cupy.zeros(131072, dtype=cupy.uint16) for _ in range(5)]
    counter = cupy.zeros(1, dtype=cupy.float32)
    first = ((generator.random(2048, dtype=cupy.float32) - 0.5).view(cupy.uint32) >> 16).astype(cupy.uint16)
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    with stream:
        stream.begin_capture()
        at = 0
        for rows, columns, source, target in shapes():
            if rows == 0:
                kernels["count"]((32,), (128,), (counter,))
                continue
            name = "gemv_2048" if columns == 2048 else "gemv_8192"
            grid = -(-rows // (16 if columns == 2048 else 4))
            own = weights[at : at + rows * columns]
            kernels[name]((grid,), (128,), (own, vectors[source], vectors[target], rows))
            at += rows * columns
        graph = stream.end_capture()
    return Chain(graph, stream, vectors, counter, first, (module, kernels, weights))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--save", type=Path)
    arguments = parser.parse_args()
    os.environ["CUPY_CACHE_IN_MEMORY"] = "1"
    with forerun.capture() as session:
        import cupy

        chain = program()
        live = session.graph(chain.graph)
    print(live, *live.graph.remarks, sep="\n  ", flush=True)
    if arguments.save is not None:
        live.save(arguments.save)

    graph, stream, vectors, counter, reset = chain.graph, chain.stream, chain.vectors, chain.counter, chain.reset
    replays: dict[str, Callable[[], None]] = {"CuPy": lambda: graph.launch(stream)}
    made: dict[str, Any] = {}
    variants: list[tuple[str, str | None]] = [
        (f"{words}, trigger {trigger}", f"insert-pdl{{trigger={trigger}}}{more}")
        for trigger in ("start", "after-wait", "none")
        for words, more in (("wait at entry", ""), ("loads moved", _MOVED))
    ]
    for name, pipeline in [*variants, ("measured", None)]:
        optimized = forerun.optimize(live, pipeline=pipeline)
        print(f"  {name}: {optimized}", flush=True)
        for code in optimized.made.values():
            print(f"    {code.early_loads} early loads, refused {code.refused}", flush=True)
        replays[name] = lambda own=optimized: own.replay(stream)  # type: ignore[misc]
        made[name] = {"dependencies": optimized.graph.count_dependencies(), "unfit": dict(optimized.unfit)}
    wrong = dict.fromkeys(replays, 0)
    reset()
    graph.launch(stream)
    stream.synchronize()
    expected = [vector.copy() for vector in vectors]
    assert all(bool(vector.any()) for vector in expected)
    for _ in range(arguments.steps):
        for name, replay in replays.items():
            reset()
            replay()
            stream.synchronize()
            same = all(bool((a == b).all()) for a, b in zip(vectors, expected, strict=True))
            wrong[name] += not (same and float(counter[0]) == LAYERS)
    times: dict[str, list[float]] = {name: [] for name in replays}
    for number in range(ROUNDS):
        for name in sorted(replays, reverse=bool(number % 2)):
            reset()
            for _ in range(3):
                replays[name]()
            begin, end = cupy.cuda.Event(), cupy.cuda.Event()
            begin.record(stream)
            for _ in range(REPLAYS):
                replays[name]()
            end.record(stream)
            end.synchronize()
            times[name].append(1e3 * cupy.cuda.get_elapsed_time(begin, end) / REPLAYS)
    base = statistics.median(times["CuPy"])
    for name, samples in times.items():
        middle = statistics.median(samples)
        print(
            f"  {name:16} {middle:8.1f} us {base / middle:.3f}x  replays that differ {wrong[name]} of {arguments.steps}"
        )
    if arguments.output is not None:
        result = {**origin(), "us": times, "wrong": wrong, "steps": arguments.steps, "variants": made}
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
