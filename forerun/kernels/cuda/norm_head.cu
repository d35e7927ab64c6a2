// logits = w n, where n is x / sqrt(mean(x^2) + eps) * scale, and the greatest logit of each of P equal parts, and
// where it stands. A CTA has consecutive parts.

#include "balance.cuh"
#include "greatest.cuh"

using Weight = Types::w;
constexpr int columns = Dims::K;
constexpr int most_parts = most_of_balanced_share<Launch, Dims::P>();
constexpr int most_rows = most_parts * ceil_div(Dims::V, Dims::P);

__device__ __forceinline__ int start_of_part(int part) { return start_of_share<Dims::V, Dims::P>(part); }
__device__ __forceinline__ int first_part(int share) {
    return start_of_balanced_share<Launch, Dims::P>(share);
}
__device__ __forceinline__ int start_of_cta(int share) { return start_of_part(first_part(share)); }
__device__ __forceinline__ const Weight* row_address(const Arguments& a, int row) {
    return a.w + static_cast<long long>(row) * columns;
}
#include "norm_stream.cuh"

struct Locals {
    Normalized input;
};

__device__ __forceinline__ void load_weights(const Arguments& a, Locals&) { fill_rings(a); }

__device__ __forceinline__ void load_scale(const Arguments& a, Locals& l) { load_share(a.scale, l.input.scale); }

__device__ __forceinline__ void normalize(const Arguments& a, Locals& l) {
    load_normalized(a.x, a.eps(), l.input);
}

__device__ __forceinline__ void dot(const Arguments& a, Locals& l) { multiply_rows(a, l.input); }

// The key of the greatest logit among the part's rows that a thread has: every n-th one.
template <int n>
__device__ __forceinline__ unsigned long long key_among(const Arguments& a, int part, int thread, float factor) {
    unsigned long long key = 0;
    const int stop = start_of_part(part + 1);
#pragma unroll 4
    for (int row = start_of_part(part) + thread; row < stop; row += n) {
        const float logit = product(row - first_row()) * factor;
        a.logits[row] = logit;
        key = max(key, key_of(logit, row));
    }
    return key;
}

__device__ __forceinline__ void put_best(const Arguments& a, int part, unsigned long long key) {
    a.best_value[part] = value_of(key);
    a.best_index[part] = index_of(key);
}

// Many small parts are for warps, a few large ones for all threads.
__device__ __forceinline__ void choose(const Arguments& a, Locals& l) {
    const float factor = factor_of(l.input);
    const int first = first_part(share_of_cta<Launch>()), stop = first_part(share_of_cta<Launch>() + 1);
    if constexpr (most_parts >= warps) {
#pragma unroll 1
        for (int part = first + warp(); part < stop; part += warps) {
            const unsigned long long key = greatest_key_of_warp(key_among<32>(a, part, lane(), factor));
            if (lane() == 0) put_best(a, part, key);
        }
    } else {
#pragma unroll 1
        for (int part = first; part < stop; ++part) {
            const int thread = thread_of<Launch>();
            const unsigned long long key = greatest_key<Launch>(key_among<Launch::threads>(a, part, thread, factor));
            if (thread == 0) put_best(a, part, key);
            if (most_parts > 1) __syncthreads();  // the next part reduces through the same shared memory
        }
    }
}
