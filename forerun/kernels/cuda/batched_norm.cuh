// Normalizes the vectors of batched_stream.cuh: n = x / sqrt(mean(x^2) + eps) * scale. As in norm_stream.cuh, the root
// divides the products.

constexpr bool normalized = true;
constexpr int columns = row_columns;
constexpr int ctas_a_share = 1;
__device__ __forceinline__ int first_column() { return 0; }
#include "batched_stream.cuh"

__device__ __forceinline__ void load_normalized(const Arguments& a, Vectors& x) {
    __syncthreads();  // the scale is there
    load_vectors(a.x, 0, x);
}

// Multiplies all rows of the CTA; then every thread may ask for products with n.
__device__ __forceinline__ void multiply_normalized(const Arguments& a, Vectors& x) {
    multiply_rows(a, a.x, x);
    float squares = x.squares;
#pragma unroll
    for (int distance = 2; distance > 0; distance /= 2) squares += __shfl_xor_sync(~0u, squares, distance);
    if (lane() % 4 == 0) floats_at(squares_at)[warp() * 8 + lane() / 4] = squares;
    __syncthreads();
}

// What the products with a vector are to be multiplied by.
__device__ __forceinline__ float factor_of(const Arguments& a, int vector) {
    float squares = 0.0f;
#pragma unroll
    for (int w = 0; w < warps; ++w) squares += floats_at(squares_at)[w * 8 + vector];
    return rsqrtf(squares / columns + a.eps());
}
