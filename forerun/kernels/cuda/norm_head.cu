// logits = w n, where n is x / sqrt(mean(x^2) + eps) * scale, and the greatest logit of each of P equal parts, and
// where it stands. A CTA has consecutive parts.

#include "greatest.cuh"

using Weight = Types::w;
constexpr int columns = Dims::K;
constexpr int most_parts = ceil_div(Dims::P, ctas_of<Launch>);
constexpr int most_rows = most_parts * ceil_div(Dims::V, Dims::P);
constexpr int bytes_on_their_way = 1 << 20;  // all: it comes once in a step, and then memory is all it needs
constexpr int ahead_in_l2 = 0;

__device__ __forceinline__ int start_of_part(int part) { return start_of_share<Dims::V, Dims::P>(part); }
__device__ __forceinline__ int first_part(int cta) { return start_of_share<Dims::P, ctas_of<Launch>>(cta); }
__device__ __forceinline__ int start_of_cta(int cta) { return start_of_part(first_part(cta)); }
#include "norm_stream.cuh"

__device__ __forceinline__ const unsigned char* row_address(const Arguments& a, int row) {
    return row_of(a.w, row);
}

struct Locals {
    Normalized input;
};

__device__ __forceinline__ void load_weights(const Arguments& a, Locals&) { fill_rings(a); }

__device__ __forceinline__ void load_scale(const Arguments& a, Locals& l) { load_shares(a.scale, l.input.scale); }

__device__ __forceinline__ void normalize(const Arguments& a, Locals& l) {
    load_normalized(a.x, a.eps(), l.input);
}

__device__ __forceinline__ void dot(const Arguments& a, Locals& l) { multiply_rows(a, l.input); }

__device__ __forceinline__ void choose(const Arguments& a, Locals& l) {
    const float factor = factor_of(l.input);
    const int cta = cta_of<Launch>();
#pragma unroll 1
    for (int part = first_part(cta); part < first_part(cta + 1); ++part) {
        unsigned long long key = 0;
        const int stop = start_of_part(part + 1);
#pragma unroll 4
        for (int row = start_of_part(part) + thread_of<Launch>(); row < stop; row += Launch::threads) {
            const float logit = product(row - first_row()) * factor;
            a.logits[row] = logit;
            key = max(key, key_of(logit, row));
        }
        key = greatest_key<Launch>(key);
        if (thread_of<Launch>() == 0) {
            a.best_value[part] = value_of(key);
            a.best_index[part] = index_of(key);
        }
        if (most_parts > 1) __syncthreads();  // the next part reduces through the same shared memory
    }
}
