// CUDA C++ as C++: what the kernels use of the device, on the CPU. A thread is a fiber; clusters of CTAs run one after
// another.
//
// Reads must lie in registered buffers, and loads of 16 bytes at multiples of that; everything else is reported.
#pragma once

// What it declares is in shim.cpp, and it is compiled once for all kernels: that took most of the time of each.
#include <setjmp.h>
#include <string.h>
#include <ucontext.h>

#include <memory>
#include <utility>
#include <vector>

#include "cuda_math.h"

#define __CUDA_ARCH_FEAT_SM90_ALL
#define __device__
#define __forceinline__ inline
#define __noinline__
#define __global__
#define __launch_bounds__(threads)
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))
#define dynamic_shared on_cpu::dynamic_memory[on_cpu::current->cta]

struct float2 { float x, y; };
struct alignas(8) uint2 { unsigned x, y; };
struct uint4 { unsigned x, y, z, w; };
struct alignas(16) float4 { float x, y, z, w; };
struct uint3 { unsigned x, y, z; };
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

extern uint3 threadIdx, blockIdx, blockDim, gridDim;

namespace on_cpu {

// Buffers that may be read from now on.
void let_read(char** starts, size_t* sizes, int count);
extern int bad_reads;
bool may_read(const void* p, size_t size, size_t alignment);
inline bool may_read(const void* p, size_t size) { return may_read(p, size, size); }

// Fibers, and barriers between them.

struct Barrier { int expected = 0, arrived = 0, round = 0; };
struct Fiber {
    ucontext_t context;  // where it starts
    jmp_buf resumes;     // where it goes on
    std::unique_ptr<char[]> stack;
    bool started = false, done = false;
    unsigned number;  // in the cluster
    unsigned cta, thread;
    int cluster_round;  // at which it has arrived; -1 if it has waited for that, -2 at first
};

extern Fiber* current;
extern Barrier cluster;
extern std::vector<Barrier> ctas, warps;
extern std::vector<unsigned long long> exchanged;
extern long progress;

void yield();
void arrive(Barrier& barrier);

// What the lane of that number gave; all lanes of the warp give something.
template <class T> T exchange(T value, unsigned lane) {
    const unsigned self = current->number;
    Barrier& warp = warps[self / 32];
    memcpy(&exchanged[self], &value, sizeof(T));
    arrive(warp);
    memcpy(&value, &exchanged[self / 32 * 32 + lane], sizeof(T));
    arrive(warp);
    return value;
}

// Copies that are not made yet. What they are to overwrite is rubbish from the moment on that they begin.
void begin(void* to, const void* from, size_t size, void* arrival);
// Makes those that this arrival is for; returns their bytes.
size_t deliver(void* arrival);

alignas(128) extern unsigned char dynamic_memory[16][1 << 18];  // of each CTA of a cluster

// Runs a grid; returns how many reads were wrong, or -1 if threads wait for each other for ever. Copies that are never
// awaited count as wrong reads.
int run_grid(uint3 grid, uint3 block, unsigned ctas_a_cluster, void (*thread)());

template <class... P, size_t... i> void call(void (*entry)(P...), void** arguments, std::index_sequence<i...>) {
    entry(*static_cast<std::remove_const_t<P>*>(arguments[i])...);
}
template <class... P> void call(void (*entry)(P...), void** arguments) {
    call(entry, arguments, std::index_sequence_for<P...>{});
}

}  // namespace on_cpu

// Threads take turns at barriers only, so nothing comes in between.
template <class T> T atomicExch(T* p, T value) { const T old = *p; *p = value; return old; }
template <class T> T atomicCAS(T* p, T compare, T value) { const T old = *p; if (old == compare) *p = value; return old; }
template <class T> T atomicAdd(T* p, T value) { return atomicExch(p, static_cast<T>(*p + value)); }
template <class T> T atomicSub(T* p, T value) { return atomicExch(p, static_cast<T>(*p - value)); }
template <class T> T atomicMax(T* p, T value) { return atomicExch(p, max(*p, value)); }
template <class T> T atomicMin(T* p, T value) { return atomicExch(p, min(*p, value)); }
template <class T> T atomicAnd(T* p, T value) { return atomicExch(p, *p & value); }
template <class T> T atomicOr(T* p, T value) { return atomicExch(p, *p | value); }
template <class T> T atomicXor(T* p, T value) { return atomicExch(p, *p ^ value); }

inline unsigned lane_on_cpu() { return on_cpu::current->number % 32; }
template <class T> T __shfl_sync(unsigned, T value, int lane, int width = 32) {
    return on_cpu::exchange(value, lane_on_cpu() / width * width + lane % width);
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32) {
    const unsigned self = lane_on_cpu(), lane = self ^ lane_mask;
    return on_cpu::exchange(value, lane < self / width * width + width ? lane : self);
}
template <class T> T __shfl_up_sync(unsigned, T value, unsigned delta, int width = 32) {
    const unsigned self = lane_on_cpu();
    return on_cpu::exchange(value, self % width >= delta ? self - delta : self);
}
template <class T> T __shfl_down_sync(unsigned, T value, unsigned delta, int width = 32) {
    const unsigned self = lane_on_cpu();
    return on_cpu::exchange(value, self % width + delta < unsigned(width) ? self + delta : self);
}
inline unsigned __ballot_sync(unsigned, int predicate) {
    unsigned found = 0;
    for (unsigned lane = 0; lane < 32; ++lane) found |= unsigned(on_cpu::exchange(predicate != 0, lane)) << lane;
    return found;
}
template <class T, class F> T reduce_on_cpu(T value, F f) {
    T found = on_cpu::exchange(value, 0);
    for (unsigned lane = 1; lane < 32; ++lane) found = f(found, on_cpu::exchange(value, lane));
    return found;
}
template <class T> T __reduce_add_sync(unsigned, T value) {
    return reduce_on_cpu(value, [](T x, T y) { return static_cast<T>(x + y); });
}
template <class T> T __reduce_min_sync(unsigned, T value) {
    return reduce_on_cpu(value, [](T x, T y) { return min(x, y); });
}
template <class T> T __reduce_max_sync(unsigned, T value) {
    return reduce_on_cpu(value, [](T x, T y) { return max(x, y); });
}
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == ~0u; }
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline void __syncthreads() { on_cpu::arrive(on_cpu::ctas[on_cpu::current->cta]); }
inline void __syncwarp() { on_cpu::arrive(on_cpu::warps[on_cpu::current->number / 32]); }
