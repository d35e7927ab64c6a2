// CUDA C++ as C++: what the kernels use of the device, on the CPU. A thread is a fiber; clusters of CTAs run one after
// another.
//
// Reads must lie in registered buffers, and loads of 16 bytes at multiples of that; everything else is reported.
#pragma once

// Few headers: they take most of the time that a kernel takes to compile.
#include <string.h>
#include <ucontext.h>

#include <utility>
#include <vector>

#include "cuda_math.h"

#define __device__
#define __forceinline__ inline
#define __noinline__
#define __global__
#define __launch_bounds__(threads)
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))
#define dynamic_shared on_cpu::dynamic_memory

struct float2 { float x, y; };
struct uint4 { unsigned x, y, z, w; };
struct alignas(16) float4 { float x, y, z, w; };
struct uint3 { unsigned x, y, z; };
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

inline uint3 threadIdx, blockIdx, blockDim, gridDim;

namespace on_cpu {

struct Range { const char *start, *stop; };
inline std::vector<Range> readable;
inline int bad_reads = 0;

inline bool may_read(const void* p, size_t size, size_t alignment) {
    const char* start = static_cast<const char*>(p);
    bool inside = false;
    for (const Range& range : readable) inside |= start >= range.start && start + size <= range.stop;
    const bool fine = inside && reinterpret_cast<size_t>(p) % alignment == 0;
    bad_reads += !fine;
    return fine;
}
inline bool may_read(const void* p, size_t size) { return may_read(p, size, size); }

// Fibers, and barriers between them.

struct Barrier { int expected = 0, arrived = 0, round = 0; };
struct Fiber {
    ucontext_t context;
    std::vector<char> stack;
    bool done = false;
    unsigned number;  // in the cluster
    unsigned cta, thread;
    int cluster_round;  // at which it has arrived; -1 if it has waited for that, -2 at first
};

inline ucontext_t scheduler;
inline std::vector<Fiber> fibers;
inline Fiber* current;
inline Barrier cluster;
inline std::vector<Barrier> ctas, warps;
inline std::vector<unsigned long long> exchanged;
inline long progress;

inline void yield() {
    Fiber* self = current;
    swapcontext(&self->context, &scheduler);
}

inline void arrive(Barrier& barrier) {
    const int round = barrier.round;
    if (++barrier.arrived == barrier.expected) {
        barrier.arrived = 0;
        ++barrier.round;
        ++progress;
    }
    while (barrier.round == round) yield();
}

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
struct Copy { void *to, *arrival; std::vector<char> bytes; };
inline std::vector<Copy> copies;
inline void begin(void* to, const void* from, size_t size, void* arrival) {
    const char* start = static_cast<const char*>(from);
    copies.push_back({to, arrival, std::vector<char>(start, start + size)});
    memset(to, 0xFF, size);
}

alignas(128) inline unsigned char dynamic_memory[1 << 18];

inline void (*body)();
inline void fiber_main() {
    body();
    current->done = true;
    ++progress;
    swapcontext(&current->context, &scheduler);
}

inline uint3 place(unsigned number, uint3 extents) {
    return {number % extents.x, number / extents.x % extents.y, number / extents.x / extents.y};
}

// Runs a grid; returns how many reads were wrong, or -1 if threads wait for each other for ever. Copies that are never
// awaited count as wrong reads.
inline int run_grid(uint3 grid, uint3 block, unsigned ctas_a_cluster, void (*thread)()) {
    body = thread;
    gridDim = grid;
    blockDim = block;
    bad_reads = 0;
    const int threads = block.x * block.y * block.z;
    const int fibers_a_cluster = threads * ctas_a_cluster;
    for (unsigned first = 0; first < grid.x * grid.y * grid.z; first += ctas_a_cluster) {
        cluster = {fibers_a_cluster};
        ctas.assign(ctas_a_cluster, Barrier{threads});
        warps.assign(fibers_a_cluster / 32, Barrier{32});
        exchanged.assign(fibers_a_cluster, 0);
        copies.clear();
        memset(dynamic_memory, 0xFF, sizeof(dynamic_memory));
        fibers.resize(fibers_a_cluster);
        for (int i = 0; i < fibers_a_cluster; ++i) {
            Fiber& fiber = fibers[i];
            fiber.stack.resize(1 << 16);
            fiber.done = false;
            fiber.cluster_round = -2;
            fiber.number = i;
            fiber.cta = i / threads;
            fiber.thread = i % threads;
            getcontext(&fiber.context);
            fiber.context.uc_stack.ss_sp = fiber.stack.data();
            fiber.context.uc_stack.ss_size = fiber.stack.size();
            makecontext(&fiber.context, fiber_main, 0);
        }
        for (bool busy = true; busy;) {
            busy = false;
            const long before = progress;
            for (Fiber& fiber : fibers) {
                if (fiber.done) continue;
                busy = true;
                current = &fiber;
                blockIdx = place(first + fiber.cta, grid);
                threadIdx = place(fiber.thread, block);
                swapcontext(&scheduler, &fiber.context);
            }
            if (busy && progress == before) return -1;
        }
        bad_reads += copies.size();
    }
    return bad_reads;
}

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
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == ~0u; }
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline void __syncthreads() { on_cpu::arrive(on_cpu::ctas[on_cpu::current->cta]); }
inline void __syncwarp() { on_cpu::arrive(on_cpu::warps[on_cpu::current->number / 32]); }
