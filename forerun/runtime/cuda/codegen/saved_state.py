"""The kernel of our own that copies the state that a replay writes, so that the replay can be undone.

If a host function of the replay before has raised, it undoes that one first. The host cannot decide that: replays are
enqueued before it knows of the failure. So the kernel asks a word in the host's memory, once a CTA, and each CTA one of
its own: such a read takes a microsecond, and those of one word come one after the other (on an H200 256 warps that read
the same word took 260 us).
"""

from __future__ import annotations

__all__ = ["FAILED_WORDS", "SAVE_ENTRY", "SAVE_SOURCE", "SAVE_WORDS"]

SAVE_ENTRY = "forerun_save_state"

SAVE_WORDS = 8
"""64-bit words of a range in the kernel's table: ``Range``."""

FAILED_WORDS = 32
"""32-bit words from one CTA's word to the next one's, in the host's memory: a cache line."""

SAVE_SOURCE = f"""\
constexpr unsigned FAILED_WORDS = {FAILED_WORDS};
"""
SAVE_SOURCE += """\
// A range begins at `live`, moved by `stride` for each one of the integer at `element` (0: it does not move), as that
// is when the range is saved; what lies outside of [low, high) is left out.
struct Range {
    unsigned long long live, saved, bytes, element;
    long long element_bytes, stride;  // the bytes of a signed integer are negative
    unsigned long long low, high;
};

__device__ long long integer(unsigned long long address, long long bytes) {
    switch (bytes) {
        case 1: return *reinterpret_cast<const volatile unsigned char*>(address);
        case 2: return *reinterpret_cast<const volatile unsigned short*>(address);
        case 4: return *reinterpret_cast<const volatile unsigned int*>(address);
        case -1: return *reinterpret_cast<const volatile signed char*>(address);
        case -2: return *reinterpret_cast<const volatile short*>(address);
        case -4: return *reinterpret_cast<const volatile int*>(address);
        default: return *reinterpret_cast<const volatile long long*>(address);
    }
}

// Past the L1 cache: other CTAs may have written what is copied.
__device__ void copy(unsigned long long to, unsigned long long from, unsigned long long bytes) {
    if (((to | from | bytes) & 15) == 0) {
        for (unsigned long long i = threadIdx.x; i < bytes / 16; i += blockDim.x)
            reinterpret_cast<uint4*>(to)[i] = __ldcg(reinterpret_cast<const uint4*>(from) + i);
    } else {
        for (unsigned long long i = threadIdx.x; i < bytes; i += blockDim.x)
            reinterpret_cast<unsigned char*>(to)[i] = __ldcg(reinterpret_cast<const unsigned char*>(from) + i);
    }
}

__device__ void move(const Range& range, long long moved, bool put_back) {
    const unsigned long long begin = range.live + static_cast<unsigned long long>(moved);
    const unsigned long long end = begin + range.bytes;
    const unsigned long long first = begin < range.low ? range.low : begin;
    const unsigned long long last = end > range.high ? range.high : end;
    if (first >= last) return;
    const unsigned long long saved = range.saved + (first - begin);
    if (put_back) copy(first, saved, last - first);
    else copy(saved, first, last - first);
}

// Whether this CTA is the last to come here; it sees what the others did before.
__device__ bool is_last(unsigned int* arrived) {
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        last = atomicAdd(arrived, 1u) == gridDim.x - 1;
        if (last) *arrived = 0;
    }
    __syncthreads();
    __threadfence();
    return last;
}

// `moved` keeps where each range was when it was saved. What a replay that failed has changed is put back before the
// next one, and that may save other bytes of it: so all is put back first, and then one CTA saves.
extern "C" __global__ void forerun_save_state(
    const Range* ranges, long long* moved, long long count, unsigned int* arrived, const volatile unsigned int* failed,
    long long put_back) {
    __shared__ bool undo;
    if (threadIdx.x == 0) undo = put_back != 0 || failed[FAILED_WORDS * blockIdx.x] != 0;
    __syncthreads();
    long long i = blockIdx.x, step = gridDim.x;
    if (undo) {
        for (; i < count; i += step) move(ranges[i], moved[i], true);
        if (put_back != 0 || !is_last(arrived)) return;
        i = 0;
        step = 1;
    }
    for (; i < count; i += step) {
        const Range range = ranges[i];
        const long long now = range.element == 0 ? 0 : range.stride * integer(range.element, range.element_bytes);
        move(range, now, false);
        if (threadIdx.x == 0) moved[i] = now;
    }
}
"""
