// CUDA C++ as C++: what the kernels use of the device, on the CPU. A thread is a fiber; the CTAs run one after another.
//
// Reads must lie in registered buffers, and loads of 16 bytes at multiples of that; everything else is reported.
#pragma once

// Few headers: they take most of the time that a kernel takes to compile.
#include <string.h>
#include <ucontext.h>

#include <utility>
#include <vector>

extern "C" {
float exp2f(float) noexcept;
float expf(float) noexcept;
float fmaf(float, float, float) noexcept;
float fmaxf(float, float) noexcept;
float sqrtf(float) noexcept;
double cos(double) noexcept;
double rint(double) noexcept;
double sin(double) noexcept;
}

#define __device__
#define __forceinline__ inline
#define __noinline__
#define __global__
#define __launch_bounds__(threads)
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))

template <class T> T max(T a, T b) { return a > b ? a : b; }

struct uint4 { unsigned x, y, z, w; };
struct alignas(16) float4 { float x, y, z, w; };
struct uint3 { unsigned x, y, z; };
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

inline uint3 threadIdx, blockIdx, blockDim, gridDim;

inline float __uint_as_float(unsigned bits) { float x; memcpy(&x, &bits, 4); return x; }
inline unsigned __float_as_uint(float x) { unsigned bits; memcpy(&bits, &x, 4); return bits; }
inline void sincospif(float x, float* sine, float* cosine) {
    constexpr double pi = 3.14159265358979323846;
    *sine = static_cast<float>(sin(pi * x));
    *cosine = static_cast<float>(cos(pi * x));
}

namespace on_cpu {

struct Range { const char *start, *stop; };
inline std::vector<Range> readable;
inline int bad_reads = 0;

inline bool may_read(const void* p, size_t size) {
    const char* start = static_cast<const char*>(p);
    bool inside = false;
    for (const Range& range : readable) inside |= start >= range.start && start + size <= range.stop;
    const bool fine = inside && reinterpret_cast<size_t>(p) % size == 0;
    bad_reads += !fine;
    return fine;
}

// Fibers, and barriers between them.

struct Barrier { int expected = 0, arrived = 0, round = 0; };
struct Fiber { ucontext_t context; std::vector<char> stack; bool done = false; unsigned thread; };

inline ucontext_t scheduler;
inline std::vector<Fiber> fibers;
inline Fiber* current;
inline Barrier cta;
inline std::vector<Barrier> warps;
inline unsigned long long exchanged[1024];
inline long progress;

inline void arrive(Barrier& barrier) {
    const int round = barrier.round;
    if (++barrier.arrived == barrier.expected) {
        barrier.arrived = 0;
        ++barrier.round;
        ++progress;
    }
    while (barrier.round == round) {
        Fiber* self = current;
        swapcontext(&self->context, &scheduler);
    }
}

template <class T> T exchange(T value, int lane_mask) {
    const unsigned self = current->thread;
    Barrier& warp = warps[self / 32];
    memcpy(&exchanged[self], &value, sizeof(T));
    arrive(warp);
    memcpy(&value, &exchanged[self ^ lane_mask], sizeof(T));
    arrive(warp);
    return value;
}

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

// Runs a grid; returns how many reads were wrong, or -1 if threads wait for each other for ever.
inline int run_grid(uint3 grid, uint3 block, void (*thread)()) {
    body = thread;
    gridDim = grid;
    blockDim = block;
    bad_reads = 0;
    const int threads = block.x * block.y * block.z;
    for (unsigned number = 0; number < grid.x * grid.y * grid.z; ++number) {
        blockIdx = place(number, grid);
        cta = {threads};
        warps.assign(threads / 32, Barrier{32});
        fibers.resize(threads);
        for (int i = 0; i < threads; ++i) {
            Fiber& fiber = fibers[i];
            fiber.stack.resize(1 << 16);
            fiber.done = false;
            fiber.thread = i;
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
                threadIdx = place(fiber.thread, block);
                swapcontext(&scheduler, &fiber.context);
            }
            if (busy && progress == before) return -1;
        }
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

template <class T> T __shfl_xor_sync(unsigned, T value, int lane_mask) { return on_cpu::exchange(value, lane_mask); }
inline void __syncthreads() { on_cpu::arrive(on_cpu::cta); }
