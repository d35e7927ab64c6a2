// Barriers of some warps of a CTA (PTX ISA, barrier.sync with a number of threads). Number 0 is that of all threads.
#pragma once

template <int number, int threads> __device__ __forceinline__ void named_barrier() {
    asm volatile("barrier.sync %0, %1;" ::"n"(number), "n"(threads) : "memory");
}
