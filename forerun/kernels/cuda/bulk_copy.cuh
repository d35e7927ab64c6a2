// Bulk copies from global to shared memory (PTX ISA, cp.async.bulk): one thread asks, the copy engine does the rest. A
// barrier in shared memory (mbarrier) says when the bytes are there.
#pragma once

__device__ __forceinline__ unsigned shared_address(const void* p) {
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

// Counts the bytes that arrive, again and again: it has a parity, 0 at first, which changes when all that were expected
// are there.
using Arrival = unsigned long long;

__device__ __forceinline__ void prepare(Arrival* arrival) {
    asm volatile("mbarrier.init.shared.b64 [%0], 1;" ::"r"(shared_address(arrival)) : "memory");
}
// Shows what the thread has prepared to the copy engine, and to the cluster.
__device__ __forceinline__ void publish_prepared() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void expect(Arrival* arrival, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(shared_address(arrival)), "r"(bytes)
                 : "memory");
}
// Waits until what was expected under that parity is there.
__device__ __forceinline__ void await_arrival(Arrival* arrival, int parity) {
    asm volatile(
        "{\n\t.reg .pred done;\n\t"
        "AGAIN%=:\n\tmbarrier.try_wait.parity.shared.b64 done, [%0], %1;\n\t@!done bra AGAIN%=;\n\t}" ::"r"(
            shared_address(arrival)),
        "r"(parity)
        : "memory");
}

// Orders what the warp has done to shared memory before the copies that follow, which are made through another proxy
// (PTX ISA, "Async proxy").
__device__ __forceinline__ void free_for_copies() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Begins to load `bytes`, a multiple of 16, from a multiple of 16 into the L2 cache. Nobody hears when they are there.
__device__ __forceinline__ void begin_prefetch(const void* from, int bytes) {
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
}

// Begins a copy of `bytes`, a multiple of 16, between addresses that are multiples of 16; who began it expects them.
__device__ __forceinline__ void begin_expected_copy(void* to, const void* from, int bytes, Arrival* arrival) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     shared_address(to)),
                 "l"(from), "r"(bytes), "r"(shared_address(arrival))
                 : "memory");
}

// The same, when nothing else is expected.
__device__ __forceinline__ void begin_copy(void* to, const void* from, int bytes, Arrival* arrival) {
    expect(arrival, bytes);
    begin_expected_copy(to, from, bytes, arrival);
}
