// token[index] = argmax(logits), by one CTA.

#include "greatest.cuh"

struct Locals {};

__device__ __forceinline__ void choose(const Arguments& a, Locals&) {
    if (cta_of<Launch>() > 0) return;
    unsigned long long key = 0;
#pragma unroll 8
    for (int i = thread_of<Launch>(); i < Dims::V; i += Launch::threads) {
        key = max(key, key_of(load_global(a.logits + i), i));
    }
    key = greatest_key<Launch>(key);
    if (thread_of<Launch>() == 0) a.token[a.index()] = index_of(key);
}
