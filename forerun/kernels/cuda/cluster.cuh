// Clusters of CTAs: neighbours in the grid that run at the same time and write to each other's shared memory (PTX ISA,
// barrier.cluster, mapa and st.async).
#pragma once

#include "bulk_copy.cuh"

// The cluster's number in the grid, the CTA's number in the cluster.
template <class Launch> constexpr int clusters_of = ctas_of<Launch> / Launch::cluster;
template <class Launch> __device__ __forceinline__ int cluster_in_grid() { return cta_of<Launch>() / Launch::cluster; }
template <class Launch> __device__ __forceinline__ int rank_in_cluster() { return cta_of<Launch>() % Launch::cluster; }

// The two halves of a barrier of all threads of the cluster. It orders no memory but what was published before; a fence
// would wait for the thread's loads.
__device__ __forceinline__ void arrive_in_cluster() {
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ __forceinline__ void await_cluster() {
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// Shared memory to which the neighbours may write.
template <class T> __device__ __forceinline__ T& shared_of_cta() {
    __shared__ __align__(16) T memory;
    return memory;
}

// Sends a number to what `own` is in the CTA of that rank. It counts as 4 bytes of that CTA's arrival.
__device__ __forceinline__ void send(float value, float* own, Arrival* arrival, int rank) {
    asm volatile(
        "{\n\t.reg .b32 to, counted;\n\t"
        "mapa.shared::cluster.u32 to, %0, %2;\n\tmapa.shared::cluster.u32 counted, %1, %2;\n\t"
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.f32 [to], %3, [counted];\n\t}" ::"r"(
            shared_address(own)),
        "r"(shared_address(arrival)), "r"(rank), "f"(value)
        : "memory");
}
