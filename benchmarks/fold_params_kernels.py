"""The kernels of ``fold_params.py``: they take shapes, strides and options from memory, like those of many engines."""

from __future__ import annotations

import numpy as np

import forerun
from forerun.ir.launches import WHOLE_WARPS

__all__ = ["binary", "matvec", "root_norm"]

_MATVEC = """
struct Locals {};
__device__ __forceinline__ float part(unsigned bits, bool high) {
    return __uint_as_float(high ? bits & 0xffff0000u : bits << 16);
}
__device__ __forceinline__ void matvec(const Arguments& a, Locals&) {
    const int rows = a.dims[0], columns = a.dims[1], step = a.wstep[0], inner = a.xstep[0];
    const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
    for (int row = blockIdx.x * warps + threadIdx.x / 32; row < rows; row += gridDim.x * warps) {
        const uint4* w = reinterpret_cast<const uint4*>(a.w + static_cast<long long>(row) * step);
        float sum = 0.0f;
        for (int piece = lane; piece < columns / 8; piece += 32) {
            const uint4 bits = w[piece];
            const unsigned words[4] = {bits.x, bits.y, bits.z, bits.w};
            for (int i = 0; i < 8; ++i) {
                sum = fmaf(part(words[i / 2], i % 2), a.x[(8 * piece + i) * inner], sum);
            }
        }
        for (int o = 16; o; o /= 2) sum += __shfl_xor_sync(~0u, sum, o);
        if (lane == 0) a.y[row * a.ystep[0]] = a.options[0] ? -sum : sum;
    }
}
"""

_NORM = """
struct Locals {};
__device__ __forceinline__ void root_norm(const Arguments& a, Locals&) {
    const int width = a.dims[0];
    __shared__ float sums[32];
    float sum = 0.0f;
    for (int i = threadIdx.x; i < width; i += blockDim.x) sum = fmaf(a.x[i * a.xstep[0]], a.x[i * a.xstep[0]], sum);
    for (int o = 16; o; o /= 2) sum += __shfl_xor_sync(~0u, sum, o);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
    __syncthreads();
    sum = 0.0f;
    for (int warp = 0; warp < blockDim.x / 32; ++warp) sum += sums[warp];
    const float scale = rsqrtf(sum / width + __int_as_float(a.options[0]));
    if (blockIdx.x == 0) {
        for (int i = threadIdx.x; i < width; i += blockDim.x) {
            a.y[i * a.ystep[0]] = a.x[i * a.xstep[0]] * scale * a.w[i * a.wstep[0]];
        }
    }
}
"""

_BINARY = """
struct Locals {};
__device__ __forceinline__ void binary(const Arguments& a, Locals&) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < a.dims[0]; i += gridDim.x * blockDim.x) {
        const float left = a.a[i * a.astep[0]], right = a.b[i * a.bstep[0]];
        a.y[i * a.ystep[0]] = a.options[0] ? left / (1.0f + expf(-left)) * right : left + right;
    }
}
"""


@forerun.kernel(
    "w: bf16[N, K] align 16, x: f32[K], dims: i32[2], wstep: i32[2], xstep: i32[1], ystep: i32[1], options: i32[2] "
    "-> y: f32[N]",
    cuda=_MATVEC,
    launches=WHOLE_WARPS,
)
def matvec(w, x, dims, wstep, xstep, ystep, options):
    """``y = w x``, or its negative."""
    rows, columns = dims
    product = w.astype(np.float32)[:rows, :columns] @ x[: columns * xstep[0] : xstep[0]]
    return -product if options[0] else product


@forerun.kernel(
    "w: f32[D], x: f32[D], dims: i32[1], wstep: i32[1], xstep: i32[1], ystep: i32[1], options: i32[1] -> y: f32[D]",
    cuda=_NORM,
    launches=WHOLE_WARPS,
)
def root_norm(w, x, dims, wstep, xstep, ystep, options):
    """The root mean square norm; the option is the bits of eps."""
    mean = np.dot(x, x) / np.float32(dims[0])
    return x / np.sqrt(mean + options.view(np.float32)[0]) * w


@forerun.kernel(
    "a: f32[D], b: f32[D], dims: i32[1], astep: i32[1], bstep: i32[1], ystep: i32[1], options: i32[1] -> y: f32[D]",
    cuda=_BINARY,
)
def binary(a, b, dims, astep, bstep, ystep, options):
    """A sum, or ``silu(a) b``."""
    return a / (1 + np.exp(-a)) * b if options[0] else a + b
