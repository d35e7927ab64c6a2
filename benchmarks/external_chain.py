"""A program that knows nothing of PDL: a chain of 81 matrix-vector products, a CuPy ``RawKernel``, captured by CuPy.

The shapes are those of a decode step of Llama-3.2-1B. Between two products of a layer stands a kernel of one CTA that
counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from external_common import Program, written_by

__all__ = ["gemv_chain"]

LAYERS = 16
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


def shapes() -> list[tuple[int, int, int, int]]:
    """Rows, columns, and the numbers of the vectors that each product reads and writes; no rows: the small kernel."""
    layer = [(3072, 2048, 0, 1), (0, 0, 0, 0), (2048, 2048, 1, 2), (16384, 2048, 2, 3), (2048, 8192, 3, 0)]
    return layer * LAYERS + [(128256, 2048, 0, 4)]


def _bf16(values: Any) -> Any:
    """The upper halves of float32."""
    import cupy

    return (values.view(cupy.uint32) >> 16).astype(cupy.uint16)


def gemv_chain(session: Any) -> Iterator[Program]:
    """Build the program, and let CuPy capture it."""
    os.environ["CUPY_CACHE_IN_MEMORY"] = "1"
    import cupy

    module = cupy.RawModule(code=SOURCE, options=("-std=c++17",))
    kernels = {name: module.get_function(name) for name in ("gemv_2048", "gemv_8192", "count")}
    total = sum(rows * columns for rows, columns, _, _ in shapes())
    generator = cupy.random.default_rng(0)
    weights = cupy.empty(total, dtype=cupy.uint16)
    for begin in range(0, total, 1 << 26):
        part = generator.random(min(1 << 26, total - begin), dtype=cupy.float32) - 0.5
        weights[begin : begin + part.size] = _bf16(part)
    vectors = [cupy.zeros(131072, dtype=cupy.uint16) for _ in range(5)]
    counter = cupy.zeros(1, dtype=cupy.float32)

    def refresh(seed: int) -> None:
        for vector in vectors:
            vector.fill(0)
        vectors[0][:2048] = _bf16(cupy.random.default_rng(seed).random(2048, dtype=cupy.float32) - 0.5)
        counter.fill(0)

    refresh(0)
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
    live = session.graph(graph)

    def replay() -> None:
        graph.launch(cupy.cuda.Stream.null)

    kept = (graph, module, kernels, weights, vectors, counter)
    yield Program("GEMVs, CuPy", live, replay, refresh, [], kept, written_by(live, [int(weights.data.ptr)]))
