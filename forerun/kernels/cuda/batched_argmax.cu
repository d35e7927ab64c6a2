// token[index, b] = the place of the greatest logit of all parts, for each vector b. A CTA has a vector.

#include "greatest.cuh"

struct Locals {};

__device__ __forceinline__ void choose(const Arguments& a, Locals&) {
#pragma unroll 1
    for (int vector = cta_of<Launch>(); vector < Dims::B; vector += ctas_of<Launch>) {
        unsigned long long key = 0;
        for (int part = thread_of<Launch>(); part < Dims::P; part += Launch::threads) {
            const int i = vector * Dims::P + part;
            key = max(key, key_of(load_global(a.best + i), load_global(a.place + i)));
        }
        if (ctas_of<Launch> < Dims::B) __syncthreads();  // the keys of the last vector have been read
        key = greatest_key<Launch>(key);
        if (thread_of<Launch>() == 0) a.token[a.index() * Dims::B + vector] = index_of(key);
    }
}
