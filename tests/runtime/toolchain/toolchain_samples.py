"""Small kernels, and a way to name the lines of a source by what stands there."""

from __future__ import annotations

from forerun.runtime.toolchain import Source

DEVICE = """\
__device__ __forceinline__ void wait() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
__device__ __forceinline__ void trigger() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }
__device__ __forceinline__ float4 load(const float* p) {
    float4 v;
    asm volatile("ld.global.v4.f32 {%0, %1, %2, %3}, [%4];"  // ordered
                 : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "l"(p) : "memory");
    return v;
}
__device__ __forceinline__ float4 load_constant(const float* p) {
    float4 v;
    asm volatile("ld.global.nc.v4.f32 {%0, %1, %2, %3}, [%4];"  // unordered
                 : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "l"(p));
    return v;
}
"""

DOT = """\
namespace dot {
struct Locals { float4 tile; float sum; };
__device__ __forceinline__ void load_weights(const float* w, Locals& l) {
    l.tile = LOAD(w + threadIdx.x * 4);  // weights
}
__device__ __forceinline__ void dot(const float* x, Locals& l) {
    const float a = x[threadIdx.x];  // input
    l.sum = l.tile.x * a + l.tile.y * a + l.tile.z * a + l.tile.w;
}
__device__ __forceinline__ void store(float* y, Locals& l) {
    y[threadIdx.x] = l.sum;  // output
}
}
"""

UNIT = """\
#include "device.cuh"
#define LOAD %s
#include "dot.cu"
extern "C" __global__ void __launch_bounds__(256) entry(const float* w, const float* x, float* y) {
    dot::Locals l;
    dot::load_weights(w, l);
    wait();
    dot::dot(x, l);
    trigger();
    dot::store(y, l);
}
"""


def dot_kernel(load: str = "load") -> Source:
    """A dot product whose weights are loaded before the wait, by ``load`` or ``load_constant``."""
    return Source("unit.cu", UNIT % load, (("device.cuh", DEVICE), ("dot.cu", DOT)))


def kernel(body: str, parameters: str = "float* p", name: str = "k.cu") -> Source:
    """A kernel ``k`` with a body; its first line is the unit's third."""
    text = f'#include "device.cuh"\nextern "C" __global__ void k({parameters}) {{\n{body}\n}}\n'
    return Source(name, text, (("device.cuh", DEVICE),))


def line_of(text: str, words: str) -> int:
    """The one-based number of the only line that has these words."""
    (number,) = [number for number, line in enumerate(text.splitlines(), 1) if words in line]
    return number
