// Bulk copies from global to shared memory (PTX ISA, cp.async.bulk): one thread asks, the copy engine does the rest. A
// barrier in shared memory (mbarrier) says when they are there.
#pragma once

__device__ __forceinline__ unsigned shared_address(const void* p) {
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

// For one copy after the other. It has a parity, which changes whenever a copy is complete; it is 0 at first.
using CopyBarrier = unsigned long long;

__device__ __forceinline__ void prepare(CopyBarrier* barrier) {
    asm volatile("mbarrier.init.shared.b64 [%0], 1;" ::"r"(shared_address(barrier)) : "memory");
}
// Shows the barriers that the thread has prepared to the copy engine.
__device__ __forceinline__ void publish_barriers() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// Begins a copy of `bytes`, a multiple of 16, between addresses that are multiples of 16.
__device__ __forceinline__ void begin_copy(void* to, const void* from, int bytes, CopyBarrier* barrier) {
    asm volatile(
        "mbarrier.arrive.expect_tx.shared.b64 _, [%3], %2;\n\t"
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
            shared_address(to)),
        "l"(from), "r"(bytes), "r"(shared_address(barrier))
        : "memory");
}

// Waits for the copy that ends the barrier's phase of that parity.
__device__ __forceinline__ void await_copy(CopyBarrier* barrier, int parity) {
    asm volatile(
        "{\n\t.reg .pred done;\n\t"
        "AGAIN%=:\n\tmbarrier.try_wait.parity.shared.b64 done, [%0], %1;\n\t@!done bra AGAIN%=;\n\t}" ::"r"(
            shared_address(barrier)),
        "r"(parity)
        : "memory");
}

// 16 bytes of shared memory, in program order: loads that the compiler may gather take too many registers.
__device__ __forceinline__ uint4 load_shared16(const void* p) {
    uint4 v;
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(shared_address(p))
                 : "memory");
    return v;
}
