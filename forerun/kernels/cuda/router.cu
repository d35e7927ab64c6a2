// The K greatest of E logits, and their softmax, by one CTA.

#include "greatest.cuh"

static_assert(Dims::K <= Dims::E, "there are not so many experts");

struct Locals {};

__device__ __forceinline__ void route(const Arguments& a, Locals&) {
    if (cta_of<Launch>() > 0) return;
    unsigned long long key = ~0ull;
    float raised[Dims::K], greatest_logit = 0.0f, sum = 0.0f;
#pragma unroll
    for (int k = 0; k < Dims::K; ++k) {
        key = greatest_key_below<Launch, Dims::E>(a.logits, key);
        const float logit = load_global(a.logits + index_of(key));
        if (k == 0) greatest_logit = logit;
        sum += raised[k] = expf(logit - greatest_logit);
        if (thread_of<Launch>() == 0) a.chosen[k] = index_of(key);
    }
#pragma unroll
    for (int k = 0; k < Dims::K; ++k) {
        if (thread_of<Launch>() == 0) a.share[k] = raised[k] / sum;
    }
}
