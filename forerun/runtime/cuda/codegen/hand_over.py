"""The kernel of our own that hands over to the host and back, with what the host needs and what it gives.

A copy node over the link takes 6 us, and a node of memory operations 5 us; this kernel does the work of both. One
thread looks at the answer: all reads of one word of the host's memory come one after the other.
"""

from __future__ import annotations

__all__ = ["HAND_OVER_COPIES", "HAND_OVER_ENTRY", "HAND_OVER_SOURCE", "HAND_OVER_THREADS"]

HAND_OVER_ENTRY = "forerun_hand_over"

HAND_OVER_COPIES = 8
"""How many copies it makes at most, before and after the host's work together."""

HAND_OVER_THREADS = 1024
"""How many threads it has at most: what makes no copies needs one."""

HAND_OVER_SOURCE = f"""\
constexpr unsigned COPIES = {HAND_OVER_COPIES}, THREADS = {HAND_OVER_THREADS};
"""
HAND_OVER_SOURCE += """\
// Bytes that follow each other; `times` is where begin and end are noted, or 0.
struct Copy {
    unsigned long long from, to, bytes, times;
};

// `before` copies to the host, and then `after` copies from it.
struct HandOver {
    unsigned *called, *answer;
    unsigned before, after;
    Copy copies[COPIES];
};

__device__ void note(unsigned long long place) {
    unsigned long long now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now)::"memory");
    *reinterpret_cast<unsigned long long*>(place) = now;
}

// Past the L1 cache: others have written what is copied.
template <class Word> __device__ void move(const Copy& copy) {
    const volatile Word* const from = reinterpret_cast<const volatile Word*>(copy.from);
    Word* const to = reinterpret_cast<Word*>(copy.to);
    const unsigned count = static_cast<unsigned>(copy.bytes / sizeof(Word));
#pragma unroll 4
    for (unsigned i = threadIdx.x; i < count; i += blockDim.x) to[i] = from[i];
}

// Four words at once, and as many of these as there are to come before the first one is used.
__device__ void move_fours(const Copy& copy) {
    constexpr unsigned AHEAD = 4;
    const uint4* const from = reinterpret_cast<const uint4*>(copy.from);
    uint4* const to = reinterpret_cast<uint4*>(copy.to);
    const unsigned count = static_cast<unsigned>(copy.bytes / 16);
    for (unsigned i = threadIdx.x; i < count; i += AHEAD * blockDim.x) {
        uint4 words[AHEAD];
#pragma unroll
        for (unsigned k = 0; k < AHEAD; ++k)
            if (i + k * blockDim.x < count) words[k] = __ldcv(from + i + k * blockDim.x);
#pragma unroll
        for (unsigned k = 0; k < AHEAD; ++k)
            if (i + k * blockDim.x < count) to[i + k * blockDim.x] = words[k];
    }
}

__device__ void make(const Copy& copy) {
    if (copy.times && !threadIdx.x) note(copy.times);
    const unsigned long long all = copy.from | copy.to | copy.bytes;
    if (!(all & 15)) move_fours(copy);
    else if (!(all & 3)) move<unsigned>(copy);
    else move<unsigned char>(copy);
    if (!copy.times) return;
    __syncthreads();
    if (!threadIdx.x) note(copy.times + 8);
}

extern "C" __global__ void __launch_bounds__(THREADS) forerun_hand_over(const __grid_constant__ HandOver work) {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
    for (unsigned i = 0; i < work.before; ++i) make(work.copies[i]);
    __syncthreads();
    if (!threadIdx.x) {  // its release covers what the other threads wrote before the barrier
        asm volatile("st.release.sys.global.u32 [%0], 1;" ::"l"(work.called) : "memory");
        unsigned answer;
        do asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(answer) : "l"(work.answer) : "memory");
        while (!answer);
        *work.answer = 0;
    }
    __syncthreads();
    for (unsigned i = work.before; i < work.before + work.after; ++i) make(work.copies[i]);
}
"""
