// y = silu(w_gate n) * (w_up n) for each vector, where n is x / sqrt(mean(x^2) + eps) * scale. Rows of the two matrices
// take turns. A CTA has pairs of elements, which are divided for the tensor cores of the next kernel.

using Weight = Types::w_gate;
constexpr int row_columns = Dims::K, vectors = Dims::B;
constexpr int pairs = Dims::N / 2, most_rows = 4 * ceil_div(pairs, ctas_of<Launch>);
constexpr int bytes_on_their_way = 8192;
constexpr int ahead_in_l2 = 1;  // attention, which runs meanwhile, waits more than it loads

__device__ __forceinline__ int first_of_share(int cta) { return 4 * start_of_share<pairs, ctas_of<Launch>>(cta); }
#include "batched_norm.cuh"

__device__ __forceinline__ const unsigned char* row_address(const Arguments& a, int row) {
    return row_of(row % 2 ? a.w_up : a.w_gate, row / 2);
}

struct Locals {
    Normalized x;
};

__device__ __forceinline__ void load_weights(const Arguments& a, Locals&) { fill_rings(a); }

__device__ __forceinline__ void normalize(const Arguments& a, Locals& l) { load_normalized(a, l.x); }

__device__ __forceinline__ void dot(const Arguments& a, Locals& l) { multiply_normalized(a, l.x); }

// An element; where exp overflows, the quotient is zero, as it should be.
__device__ __forceinline__ float activated(int vector, int row, float factor) {
    const float gate = product(vector, 2 * row) * factor, up = product(vector, 2 * row + 1) * factor;
    return gate / (1.0f + expf(-gate)) * up;
}
__device__ __forceinline__ void activate(const Arguments& a, Locals&) {
    constexpr int most = most_rows / 4;
#pragma unroll 1
    for (int i = thread_of<Launch>(); i < most * vectors; i += Launch::threads) {
        const int vector = i / most, row = i % most * 2;
        if (2 * row >= row_count()) continue;
        const float factor = factor_of(vector);
        const long long place = static_cast<long long>(vector) * Dims::N + first_row() / 2 + row;
        store_divided(a.y, place, activated(vector, row, factor), activated(vector, row + 1, factor));
    }
}
