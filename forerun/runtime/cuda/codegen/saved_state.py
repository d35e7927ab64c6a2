"""The kernel of our own that copies the state that a replay writes, unless a host function of an earlier one raised.

The host cannot decide that: replays are enqueued before it knows of the failure, and a copy that a later replay made
would hold what the failed one left behind.
"""

from __future__ import annotations

__all__ = ["SAVE_ENTRY", "SAVE_SOURCE", "SAVE_WORDS"]

SAVE_ENTRY = "forerun_save_state"

SAVE_WORDS = 8
"""64-bit words of a range in the kernel's table: ``Range``."""

SAVE_SOURCE = """\
// A range begins at `live`, moved by `stride` for each one of the integer at `element` (0: it does not move), as that
// is when the range is saved; what lies outside of [low, high) is no part of it.
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

__device__ void copy(unsigned long long to, unsigned long long from, unsigned long long bytes) {
    if (((to | from | bytes) & 15) == 0) {
        for (unsigned long long i = threadIdx.x; i < bytes / 16; i += blockDim.x)
            reinterpret_cast<uint4*>(to)[i] = reinterpret_cast<const uint4*>(from)[i];
    } else {
        for (unsigned long long i = threadIdx.x; i < bytes; i += blockDim.x)
            reinterpret_cast<unsigned char*>(to)[i] = reinterpret_cast<const unsigned char*>(from)[i];
    }
}

// `moved` keeps where each range was when it was saved, so that it is put back there.
extern "C" __global__ void forerun_save_state(
    Range* ranges, long long* moved, long long count, const volatile unsigned int* failed, long long put_back) {
    if (put_back == 0 && *failed != 0) return;
    for (long long i = blockIdx.x; i < count; i += gridDim.x) {
        const Range range = ranges[i];
        if (put_back == 0 && threadIdx.x == 0)
            moved[i] = range.element == 0 ? 0 : range.stride * integer(range.element, range.element_bytes);
        __syncthreads();
        const unsigned long long begin = range.live + static_cast<unsigned long long>(moved[i]);
        const unsigned long long end = begin + range.bytes;
        const unsigned long long first = begin < range.low ? range.low : begin;
        const unsigned long long last = end > range.high ? range.high : end;
        if (first >= last) continue;
        const unsigned long long saved = range.saved + (first - begin);
        if (put_back == 0) copy(saved, first, last - first);
        else copy(first, saved, last - first);
    }
}
"""
