// token[r] = argmax(logits[r]), a CTA a request; 0 behind the requests of the batch.

#include "greatest.cuh"

struct Locals {};

__device__ __forceinline__ void choose(const Arguments& a, Locals&) {
    const int rows = least(load_global(a.rows), Dims::R);
#pragma unroll 1
    for (int row = cta_of<Launch>(); row < Dims::R; row += ctas_of<Launch>) {
        unsigned long long key = 0;
        if (row < rows) {
            const float* logits = a.logits + static_cast<long long>(row) * Dims::V;
#pragma unroll 8
            for (int i = thread_of<Launch>(); i < Dims::V; i += Launch::threads) {
                key = max(key, key_of(load_global(logits + i), i));
            }
            key = greatest_key<Launch>(key);
        }
        if (thread_of<Launch>() == 0) a.token[row] = row < rows ? index_of(key) : 0;
        if constexpr (ctas_of<Launch> < Dims::R) __syncthreads();  // the keys of the row have been read
    }
}
