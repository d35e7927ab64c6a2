// The greatest logit of each of P equal parts, and where it stands.

#include "greatest.cuh"

struct Locals {};

__device__ __forceinline__ int start_of(int part) {
    return static_cast<int>(static_cast<long long>(Dims::V) * part / Dims::P);
}

__device__ __forceinline__ void choose(const Arguments& a, Locals&) {
#pragma unroll 1
    for (int part = cta_of<Launch>(); part < Dims::P; part += ctas_of<Launch>) {
        unsigned long long key = 0;
#pragma unroll 8
        for (int i = start_of(part) + thread_of<Launch>(); i < start_of(part + 1); i += Launch::threads) {
            key = max(key, key_of(load_global(a.logits + i), i));
        }
        key = greatest_key<Launch>(key);
        if (thread_of<Launch>() == 0) {
            a.best[part] = value_of(key);
            a.place[part] = index_of(key);
        }
        if (Dims::P > ctas_of<Launch>) __syncthreads();  // the next part reduces through the same shared memory
    }
}
