// Clusters of CTAs: CTAs that run at the same time, and write to each other's shared memory (PTX ISA, barrier.cluster and
// mapa). They are neighbours in the grid.
#pragma once

// The cluster's number in the grid, the CTA's number in the cluster.
template <class Launch> constexpr int clusters_of = ctas_of<Launch> / Launch::cluster;
template <class Launch> __device__ __forceinline__ int cluster_in_grid() { return cta_of<Launch>() / Launch::cluster; }
template <class Launch> __device__ __forceinline__ int rank_in_cluster() { return cta_of<Launch>() % Launch::cluster; }

// The two halves of a barrier of all threads of the cluster. What a thread wrote before the first half is seen by all
// after the second.
__device__ __forceinline__ void arrive_in_cluster() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
__device__ __forceinline__ void await_cluster() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

// Shared memory that the neighbours may write to, the same for every CTA.
template <class T> __device__ __forceinline__ T& shared_of_cta() {
    __shared__ __align__(16) T memory;
    return memory;
}

// Writes to what `own` is in the CTA of that rank.
__device__ __forceinline__ void store_in_cluster(float& own, int rank, float value) {
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(&own));
    asm volatile(
        "{\n\t.reg .b32 remote;\n\tmapa.shared::cluster.u32 remote, %0, %1;\n\t"
        "st.shared::cluster.f32 [remote], %2;\n\t}" ::"r"(address),
        "r"(rank), "f"(value)
        : "memory");
}
