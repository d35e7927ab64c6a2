// The time that all SMs share, in nanoseconds, and the number of the SM.
#pragma once

__device__ __forceinline__ long long global_nanoseconds() {
    long long now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now)::"memory");
    return now;
}
__device__ __forceinline__ int number_of_sm() {
    int number;
    asm volatile("mov.u32 %0, %%smid;" : "=r"(number));
    return number;
}
