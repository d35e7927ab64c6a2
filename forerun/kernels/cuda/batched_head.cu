// logits = w n for each vector, where n is x / sqrt(mean(x^2) + eps) * scale, and the greatest logit of each of P equal
// parts, and where it stands. A CTA has consecutive parts; a warp looks for the greatest of a vector.

#include "greatest.cuh"

using Weight = Types::w;
constexpr int row_columns = Dims::K, vectors = Dims::B;
constexpr int most_rows = ceil_div(Dims::P, ctas_of<Launch>) * ceil_div(Dims::V, Dims::P);
constexpr int bytes_on_their_way = 1 << 20;  // all: it comes once in a step, and then memory is all it needs
constexpr int ahead_in_l2 = 0;

__device__ __forceinline__ int start_of_part(int part) { return start_of_share<Dims::V, Dims::P>(part); }
__device__ __forceinline__ int first_part(int cta) { return start_of_share<Dims::P, ctas_of<Launch>>(cta); }
__device__ __forceinline__ int first_of_share(int cta) { return start_of_part(first_part(cta)); }
#include "batched_norm.cuh"

__device__ __forceinline__ const unsigned char* row_address(const Arguments& a, int row) { return row_of(a.w, row); }

struct Locals {
    Normalized x;
};

__device__ __forceinline__ void load_weights(const Arguments& a, Locals&) { fill_rings(a); }

__device__ __forceinline__ void normalize(const Arguments& a, Locals& l) { load_normalized(a, l.x); }

__device__ __forceinline__ void dot(const Arguments& a, Locals& l) { multiply_normalized(a, l.x); }

__device__ __forceinline__ void choose(const Arguments& a, Locals&) {
    const int cta = cta_of<Launch>();
#pragma unroll 1
    for (int vector = warp(); vector < vectors; vector += warps) {
        const float factor = factor_of(vector);
        float* logits = a.logits + static_cast<long long>(vector) * Dims::V;
#pragma unroll 1
        for (int part = first_part(cta); part < first_part(cta + 1); ++part) {
            unsigned long long key = 0;
            const int stop = start_of_part(part + 1);
#pragma unroll 4
            for (int row = start_of_part(part) + lane(); row < stop; row += 32) {
                const float logit = product(vector, row - first_row()) * factor;
                logits[row] = logit;
                key = max(key, key_of(logit, row));
            }
#pragma unroll
            for (int distance = 16; distance > 0; distance /= 2) key = max(key, __shfl_xor_sync(~0u, key, distance));
            if (lane() == 0) {
                a.best_value[vector * Dims::P + part] = value_of(key);
                a.best_index[vector * Dims::P + part] = index_of(key);
            }
        }
    }
}
