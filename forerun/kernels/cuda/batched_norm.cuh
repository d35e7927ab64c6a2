// Normalizes the vectors of batched_stream.cuh: n = x / sqrt(mean(x^2) + eps) * scale. Who computed x has multiplied it
// by `scale`, and summed the squares of every eight elements; the root divides the products.

constexpr int columns = row_columns;
constexpr int ctas_a_share = 1;
__device__ __forceinline__ int first_column() { return 0; }
#include "batched_stream.cuh"

static_assert(2 * Dims::C == columns && 8 * Dims::G == columns, "vectors are pairs of columns, and eights");

// Warps take turns at the vectors' sums: a lane has some sums of squares at a time.
constexpr int squares_a_load = piece_of_row<float>(Dims::G);
constexpr int square_loads = ceil_div(Dims::G, 32 * squares_a_load);
constexpr int vectors_a_warp = ceil_div(vectors, warps);

struct Normalized {
    Vectors x;
    float squares[vectors_a_warp][square_loads][squares_a_load];
};

__device__ __forceinline__ float& factor_of(int vector) {
    static_assert(vectors <= 8, "room for eight");
    __shared__ float factors[8];
    return factors[vector];
}

__device__ __forceinline__ void load_normalized(const Arguments& a, Normalized& to) {
    load_vectors(a.x, 0, to.x);
#pragma unroll
    for (int turn = 0; turn < vectors_a_warp; ++turn) {
        const int vector = turn * warps + warp();
#pragma unroll
        for (int i = 0; i < square_loads; ++i) {
            const int first = (i * 32 + lane()) * squares_a_load;
            const bool wanted = vector < vectors && first < Dims::G;
            load_floats(a.squares + vector * Dims::G + first, to.squares[turn][i], wanted);
        }
    }
}

// Multiplies all rows of the CTA; then every thread may ask for products, and what those with a vector are to be
// multiplied by.
__device__ __forceinline__ void multiply_normalized(const Arguments& a, Normalized& by) {
    multiply_rows(a, a.x, by.x, [&] {
#pragma unroll
        for (int turn = 0; turn < vectors_a_warp; ++turn) {
            const int vector = turn * warps + warp();
            float sum = 0.0f;
#pragma unroll
            for (int i = 0; i < square_loads; ++i) {
#pragma unroll
                for (int e = 0; e < squares_a_load; ++e) sum += by.squares[turn][i][e];
            }
            sum = warp_sum(sum);
            if (lane() == 0 && vector < vectors) factor_of(vector) = rsqrtf(sum / columns + a.eps());
        }
    });
}
