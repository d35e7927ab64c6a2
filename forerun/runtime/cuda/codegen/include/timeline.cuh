// When each CTA did what: a record of five 64-bit words a CTA, in the order of the grid. Times are %globaltimer's, in
// nanoseconds; a word that is zero was not written. What a program holds of them: forerun/runtime/cuda/timestamps.py.
#pragma once

enum Stamp { STAMP_START, STAMP_WAIT, STAMP_TRIGGER, STAMP_END, STAMP_SM, STAMP_WORDS };

__device__ __forceinline__ unsigned long long global_time() {
    unsigned long long now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now)::"memory");
    return now;
}

// One thread stores, and nobody waits for the store: the rest of the CTA goes on.
template <class Launch>
__device__ __forceinline__ void store_stamp(unsigned long long* records, Stamp stamp, unsigned long long value) {
    unsigned long long* const place = records + static_cast<long long>(cta_of<Launch>()) * STAMP_WORDS + stamp;
    asm volatile("st.global.b64 [%0], %1;" ::"l"(place), "l"(value) : "memory");
}

// The time, by the thread of that number.
template <class Launch> __device__ __forceinline__ void stamp_time(unsigned long long* records, Stamp stamp, int thread) {
    if (thread_of<Launch>() == thread) store_stamp<Launch>(records, stamp, global_time());
}

template <class Launch> __device__ __forceinline__ void stamp_start(unsigned long long* records) {
    if (thread_of<Launch>() != 0) return;
    store_stamp<Launch>(records, STAMP_START, global_time());
    unsigned sm;
    asm volatile("mov.u32 %0, %%smid;" : "=r"(sm));
    store_stamp<Launch>(records, STAMP_SM, sm);
}

// The CTA ends when its last thread does: all meet first.
template <class Launch> __device__ __forceinline__ void stamp_end(unsigned long long* records) {
    cta_barrier();
    stamp_time<Launch>(records, STAMP_END, 0);
}
