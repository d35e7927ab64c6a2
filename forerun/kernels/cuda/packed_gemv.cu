// y = w x for rows of quantised blocks. A warp has a row, a lane every 32nd weight, in f32.

#include "packed_rows.cuh"

static_assert(has_whole_warps<Launch>, "rows belong to warps");
using Rows = PackedRows<PackingOf<Dims>, Dims::K>;
constexpr int all_warps = warps_of<Launch> * ctas_of<Launch>;
constexpr int rows_a_warp = ceil_div(Dims::N, all_warps);

struct Locals {
    float acc[rows_a_warp];
};

__device__ __forceinline__ int row_at(int i) {
    return i * all_warps + cta_of<Launch>() * warps_of<Launch> + thread_of<Launch>() / 32;
}

__device__ __forceinline__ void load_weights(const Arguments& a, Locals&) {}

__device__ __forceinline__ void dot(const Arguments& a, Locals& l) {
#pragma unroll(rows_a_warp <= 4 ? rows_a_warp : 1)
    for (int i = 0; i < rows_a_warp; ++i) {
        const unsigned char* row = a.w + static_cast<long long>(least(row_at(i), Dims::N - 1)) * Rows::row_bytes;
        float sum = 0.0f;
#pragma unroll 4
        for (int column = thread_of<Launch>() % 32; column < Dims::K; column += 32) {
            sum = fmaf(Rows::weight(row, column), load_global(a.x + column), sum);
        }
        l.acc[i] = warp_sum(sum);
    }
}

__device__ __forceinline__ void store(const Arguments& a, Locals& l) {
#pragma unroll(rows_a_warp <= 4 ? rows_a_warp : 1)
    for (int i = 0; i < rows_a_warp; ++i) {
        if (thread_of<Launch>() % 32 == 0 && row_at(i) < Dims::N) a.y[row_at(i)] = l.acc[i];
    }
}
