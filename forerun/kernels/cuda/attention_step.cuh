// 16 packed query rows against 16 positions, by a warp. A lane has elements of rows `lane / 4` and 8 more.
#pragma once

constexpr float log2_e = 1.4426950408889634f;

struct Found {
    float greatest[2], sum[2];  // of the two rows; the sum only of the lane's own positions
    float weighted[Dims::HD / 8][4];
};
__device__ __forceinline__ Found nothing_found() {
    Found found = {};
    found.greatest[0] = found.greatest[1] = -infinity();
    return found;
}

__device__ __forceinline__ float scale_of_scores() { return log2_e / sqrtf(static_cast<float>(Dims::HD)); }

// 16 rows from a first one on; zeros for those that the item does not have.
__device__ __forceinline__ void load_queries(
    const Arguments& a, const Work& work, int first_row, unsigned (&q)[Dims::HD / 16][4]) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        const int r = first_row + lane_in_warp() / 4 + 8 * h, packed_row = work.first_packed + r;
        const bool has_row = r < work.rows;
        const long long row = work.first_row + packed_row / group;
        const Element* start = a.q + (row * Dims::H + work.kv_head * group + packed_row % group) * Dims::HD;
        const unsigned* words = reinterpret_cast<const unsigned*>(start) + lane_in_warp() % 4;
#pragma unroll
        for (int j = 0; j < Dims::HD / 16; ++j) {
            q[j][h] = has_row ? load_global(words + 8 * j) : 0;
            q[j][2 + h] = has_row ? load_global(words + 8 * j + 4) : 0;
        }
    }
}

// Scores of two times eight positions.
using Scores = float[2][4];

__device__ __forceinline__ void score(
    const unsigned char* k, const unsigned (&q)[Dims::HD / 16][4], Scores& scores) {
    const int lane = lane_in_warp();
    const unsigned row = shared_address(k) + (lane % 8 + lane / 16 * 8) * row_bytes + (lane / 8 % 2 ^ (lane & swizzle)) * 16;
    Scores odd = {};  // two chains of sums, which wait for each other less
#pragma unroll
    for (int j = 0; j < Dims::HD / 16; ++j) {
        unsigned b[4];
        load_matrices_at(row ^ 32 * j, b);
        Scores& sums = j % 2 ? odd : scores;
        multiply_add<Element>(sums[0], q[j], b[0], b[1]);
        multiply_add<Element>(sums[1], q[j], b[2], b[3]);
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) scores[i / 4][i % 4] += odd[i / 4][i % 4];
}

// Positions that a row does not see have no score.
__device__ __forceinline__ void hide(const Work& work, int first_row, int end, int first, Scores& scores) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        const int packed_row = work.first_packed + first_row + lane_in_warp() / 4 + 8 * h;
        const int stop = least(end, work.past + packed_row / group + 1);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int position = first + i / 2 * 8 + lane_in_warp() % 4 * 2 + i % 2;
            if (position >= stop) scores[i / 2][2 * h + i % 2] = -infinity();
        }
    }
}

// Scores become weights; what was found before is rescaled if a greater score has come.
__device__ __forceinline__ void weigh(Scores& scores, Found& found) {
    const float scale = scale_of_scores();
    float kept[2];
    bool has_greater = false;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        float greatest = fmaxf(fmaxf(scores[0][2 * h], scores[0][2 * h + 1]), fmaxf(scores[1][2 * h], scores[1][2 * h + 1]));
        greatest = fmaxf(greatest, __shfl_xor_sync(~0u, greatest, 1));
        greatest = fmaxf(greatest, __shfl_xor_sync(~0u, greatest, 2));
        greatest = fmaxf(greatest * scale, found.greatest[h]);
        const float shift = greatest == -infinity() ? 0.0f : greatest;
        kept[h] = power_of_two(found.greatest[h] - shift);
        has_greater |= greatest > found.greatest[h];
        found.greatest[h] = greatest;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            float& score = scores[i / 2][2 * h + i % 2];
            score = power_of_two(fmaf(score, scale, -shift));
        }
    }
    if (__any_sync(~0u, has_greater)) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            found.sum[h] *= kept[h];
#pragma unroll
            for (int j = 0; j < Dims::HD / 8; ++j) {
                found.weighted[j][2 * h] *= kept[h];
                found.weighted[j][2 * h + 1] *= kept[h];
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) found.sum[i % 4 / 2] += scores[i / 4][i % 4];
}

__device__ __forceinline__ void add_values(const unsigned char* v, const Scores& weights, Found& found) {
    const int lane = lane_in_warp();
    const unsigned row = shared_address(v) + (lane % 8 + lane / 8 % 2 * 8) * row_bytes + (lane / 16 ^ (lane & swizzle)) * 16;
    const unsigned p[4] = {
        packed<Element>(weights[0][0], weights[0][1]), packed<Element>(weights[0][2], weights[0][3]),
        packed<Element>(weights[1][0], weights[1][1]), packed<Element>(weights[1][2], weights[1][3])};
#pragma unroll
    for (int j = 0; j < Dims::HD / 16; ++j) {
        unsigned b[4];
        load_matrices_transposed_at(row ^ 32 * j, b);
        multiply_add<Element>(found.weighted[2 * j], p, b[0], b[1]);
        multiply_add<Element>(found.weighted[2 * j + 1], p, b[2], b[3]);
    }
}

// The rows from `first_row` on against the positions from `first` on, and before `end`.
__device__ __forceinline__ void attend_step(
    const unsigned char* rows, const unsigned (&q)[Dims::HD / 16][4], const Work& work, int first_row, int first, int end,
    Found& found) {
    Scores scores = {};
    score(rows, q, scores);
    // The first row sees the least.
    const int seen_by_all = least(end, work.past + (work.first_packed + first_row) / group + 1);
    if (first + step > seen_by_all) hide(work, first_row, end, first, scores);
    weigh(scores, found);
    add_values(rows + matrix_bytes, scores, found);
}

// To shared memory; sums are put together before.
__device__ __forceinline__ void publish(const Found& found, int free_stage) {
    Results& all = results();
    const int w = warp_in_cta(), lane = lane_in_warp();
    Weighted& weighted = weighted_of(w, free_stage);
    if (results_in_rings) __syncwarp();  // all lanes have read the stage
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        float sum = found.sum[h];
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        const int r = lane / 4 + 8 * h;
        if (lane % 4 == 0) {
            all.greatest[w][r] = found.greatest[h];
            all.sum[w][r] = sum;
        }
#pragma unroll
        for (int j = 0; j < Dims::HD / 8; ++j) {
            float* pair = &weighted[r][weighted_place(r, 8 * j + lane % 4 * 2)];
            *reinterpret_cast<float2*>(pair) = {found.weighted[j][2 * h], found.weighted[j][2 * h + 1]};
        }
    }
}
