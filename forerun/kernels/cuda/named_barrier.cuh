// Barriers of some warps of a CTA (PTX ISA, barrier.sync with a number of threads). Number 0 is that of all threads.
#pragma once

// Arrives without waiting. The number may be one of several.
__device__ __forceinline__ void arrive_at_barrier(int number, int threads) {
    asm volatile("barrier.arrive %0, %1;" ::"r"(number), "r"(threads) : "memory");
}
__device__ __forceinline__ void await_barrier(int number, int threads) {
    asm volatile("barrier.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

template <int number, int threads> __device__ __forceinline__ void named_barrier() {
    asm volatile("barrier.sync %0, %1;" ::"n"(number), "n"(threads) : "memory");
}
