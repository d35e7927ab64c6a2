// The scores of 64 packed rows with the positions of a block, by a warpgroup: how they become weights, and products.
#pragma once

struct TileSums {
    float greatest[2], sum[2];  // of the lane's two rows; the sum only of its own positions
    float weighted[tile_elements / 2];
};
using TileScores = float[block / 2];
using TileWeights = unsigned[block / 16][4];

__device__ __forceinline__ void begin_scores(TileScores& scores, unsigned q, unsigned k) {
    const Matrix rows = matrix_at(q), columns = matrix_at(k);
#pragma unroll
    for (int j = 0; j < tile_elements / 16; ++j) {
        const int within = j % 4 * 32;
        begin_product<Element>(
            scores, moved(rows, j / 4 * tile_panel + within), moved(columns, j / 4 * block_panel + within), j > 0);
    }
}
__device__ __forceinline__ void begin_values(TileSums& found, const TileWeights& weights, unsigned v) {
    const Matrix values = matrix_at(v, block_panel);
#pragma unroll
    for (int j = 0; j < block / 16; ++j) begin_product<Element>(found.weighted, weights[j], moved(values, j * 16 * panel_bytes));
}

// The row of the tile that the lane has, or the one 8 rows on.
__device__ __forceinline__ int tile_row(int h) {
    return thread_of<Launch>() / 32 % 4 * 16 + lane_in_warp() / 4 + 8 * h;
}

// Positions that a row does not see have no score.
__device__ __forceinline__ void hide(const Work& work, int first_row, int end, int first, TileScores& scores) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        const int packed_row = work.first_packed + first_row + tile_row(h);
        const int stop = least(end, work.past + packed_row / group + 1) - first - lane_in_warp() % 4 * 2;
#pragma unroll
        for (int i = 0; i < block / 4; ++i) {
            if (i / 2 * 8 + i % 2 >= stop) scores[i / 2 * 4 + 2 * h + i % 2] = -infinity();
        }
    }
}

// Scores become weights; returns by row what sums made before have to be multiplied with, and whether by other than 1.
__device__ __forceinline__ bool weigh(TileScores& scores, TileSums& found, float (&kept)[2]) {
    const float scale = scale_of_scores();
    bool has_greater = false;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        float some[4];  // four chains, which wait less for each other
#pragma unroll
        for (int i = 0; i < block / 4; ++i) {
            const float score = scores[i / 2 * 4 + 2 * h + i % 2];
            some[i % 4] = i < 4 ? score : fmaxf(some[i % 4], score);
        }
        float greatest = fmaxf(fmaxf(some[0], some[1]), fmaxf(some[2], some[3]));
        greatest = fmaxf(greatest, __shfl_xor_sync(~0u, greatest, 1));
        greatest = fmaxf(greatest, __shfl_xor_sync(~0u, greatest, 2));
        greatest *= scale;
        if (greatest <= found.greatest[h] + leeway) greatest = found.greatest[h];
        const float shift = greatest == -infinity() ? 0.0f : greatest;
        kept[h] = power_of_two(found.greatest[h] - shift);
        has_greater |= greatest != found.greatest[h];
        found.greatest[h] = greatest;
#pragma unroll
        for (int i = 0; i < block / 4; ++i) {
            float& score = scores[i / 2 * 4 + 2 * h + i % 2];
            score = power_of_two(fmaf(score, scale, -shift));
            some[i % 4] = i < 4 ? score : some[i % 4] + score;
        }
        found.sum[h] = fmaf(found.sum[h], kept[h], (some[0] + some[1]) + (some[2] + some[3]));
    }
    return __any_sync(~0u, has_greater);
}
__device__ __forceinline__ void rescale(TileSums& found, const float (&kept)[2]) {
#pragma unroll
    for (int i = 0; i < tile_elements / 2; ++i) found.weighted[i] *= kept[i / 2 % 2];
}
__device__ __forceinline__ void pack(const TileScores& scores, TileWeights& weights) {
#pragma unroll
    for (int i = 0; i < block / 4; ++i) weights[i / 4][i % 4] = packed<Element>(scores[2 * i], scores[2 * i + 1]);
}
