// 8 packed query rows against 16 positions, by a warp. Products have the positions, or the elements of a head, as their 16
// rows, and the packed rows as their 8 columns: so few rows fill them. A lane has elements of rows `2 (lane % 4)` and 1 more.
#pragma once

constexpr float log2_e = 1.4426950408889634f;

struct Found {
    float greatest[2], sum[2];  // of the two rows; the sum only of the lane's own positions
    float weighted[Dims::HD / 16][4];  // of elements `16 j + lane / 4` and 8 more
};
__device__ __forceinline__ Found nothing_found() {
    Found found = {};
    found.greatest[0] = found.greatest[1] = -infinity();
    return found;
}

__device__ __forceinline__ float scale_of_scores() { return log2_e / sqrtf(static_cast<float>(Dims::HD)); }

// 8 rows from a first one on; zeros for those that the item does not have.
using Queries = unsigned[Dims::HD / 16][2];
__device__ __forceinline__ void load_queries(const Arguments& a, const Work& work, int first_row, Queries& q) {
    const int r = first_row + lane_in_warp() / 4, packed_row = work.first_packed + r;
    const bool has_row = r < work.rows;
    const long long row = work.first_row + packed_row / group;
    const Element* start = a.q + (row * Dims::H + work.kv_head * group + packed_row % group) * Dims::HD;
    const unsigned* words = reinterpret_cast<const unsigned*>(start) + lane_in_warp() % 4;
#pragma unroll
    for (int j = 0; j < Dims::HD / 16; ++j) {
        q[j][0] = has_row ? load_global(words + 8 * j) : 0;
        q[j][1] = has_row ? load_global(words + 8 * j + 4) : 0;
    }
}

// Scores of the two rows with position `lane / 4`, and with the one 8 on.
using Scores = float[4];

__device__ __forceinline__ void score(const unsigned char* k, const Queries& q, Scores& scores) {
    const int lane = lane_in_warp();
    const int position = lane % 8 + lane / 8 % 2 * 8;
    const unsigned row = shared_address(k) + position * row_bytes + (lane / 16 ^ (lane & swizzle)) * 16;
    Scores odd = {};  // two chains of sums, which wait for each other less
#pragma unroll
    for (int j = 0; j < Dims::HD / 16; ++j) {
        unsigned part[4];
        load_matrices_at(row ^ 32 * j, part);
        multiply_add<Element>(j % 2 ? odd : scores, part, q[j][0], q[j][1]);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) scores[i] += odd[i];
}

// Positions that a row does not see have no score.
__device__ __forceinline__ void hide(const Work& work, int first_row, int end, int first, Scores& scores) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
        const int packed_row = work.first_packed + first_row + lane_in_warp() % 4 * 2 + c;
        const int stop = least(end, work.past + packed_row / group + 1) - first - lane_in_warp() / 4;
        if (stop <= 0) scores[c] = -infinity();
        if (stop <= 8) scores[2 + c] = -infinity();
    }
}

// Weights may be up to 2 to the power of this before what was found is rescaled: then that is rarely needed.
constexpr float leeway = 8.0f;

// The greatest scores become those of all positions up to now, and what was found before is rescaled.
__device__ __forceinline__ void rescale(const Scores& scores, Found& found) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
        float greatest = fmaxf(scores[c], scores[2 + c]);
#pragma unroll
        for (int distance = 4; distance < 32; distance *= 2) greatest = fmaxf(greatest, __shfl_xor_sync(~0u, greatest, distance));
        greatest = fmaxf(greatest * scale_of_scores(), found.greatest[c]);
        const float kept = power_of_two(found.greatest[c] - (greatest == -infinity() ? 0.0f : greatest));
        found.greatest[c] = greatest;
        found.sum[c] *= kept;
#pragma unroll
        for (int j = 0; j < Dims::HD / 16; ++j) {
            found.weighted[j][c] *= kept;
            found.weighted[j][2 + c] *= kept;
        }
    }
}

// Scores become weights.
__device__ __forceinline__ void weigh(Scores& scores, Found& found) {
    const float scale = scale_of_scores();
    bool has_greater = false;
#pragma unroll
    for (int i = 0; i < 4; ++i) has_greater |= scores[i] * scale > found.greatest[i % 2] + leeway;
    if (__any_sync(~0u, has_greater)) rescale(scores, found);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const float shift = found.greatest[i % 2] == -infinity() ? 0.0f : found.greatest[i % 2];
        scores[i] = power_of_two(fmaf(scores[i], scale, -shift));
        found.sum[i % 2] += scores[i];
    }
}

__device__ __forceinline__ void add_values(const unsigned char* v, const Scores& weights, Found& found) {
    const int lane = lane_in_warp();
    const int position = lane % 8 + lane / 16 * 8;
    const unsigned row = shared_address(v) + position * row_bytes + (lane / 8 % 2 ^ (lane & swizzle)) * 16;
    const unsigned before = transposed(packed<Element>(weights[0], weights[1]));
    const unsigned behind = transposed(packed<Element>(weights[2], weights[3]));
#pragma unroll
    for (int j = 0; j < Dims::HD / 16; ++j) {
        unsigned part[4];
        load_matrices_transposed_at(row ^ 32 * j, part);
        multiply_add<Element>(found.weighted[j], part, before, behind);
    }
}

// The rows from `first_row` on against the positions from `first` on, and before `end`.
__device__ __forceinline__ void attend_step(
    const unsigned char* rows, const Queries& q, const Work& work, int first_row, int first, int end, Found& found) {
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
    __syncwarp();  // all lanes have read the stage
#pragma unroll
    for (int c = 0; c < 2; ++c) {
        float sum = found.sum[c];
#pragma unroll
        for (int distance = 4; distance < 32; distance *= 2) sum += __shfl_xor_sync(~0u, sum, distance);
        const int r = lane % 4 * 2 + c;
        if (lane / 4 == 0) {
            all.greatest[w][r] = found.greatest[c];
            all.sum[w][r] = sum;
        }
#pragma unroll
        for (int j = 0; j < Dims::HD / 16; ++j) {
            weighted[r][weighted_place(r, 16 * j + lane / 4)] = found.weighted[j][c];
            weighted[r][weighted_place(r, 16 * j + 8 + lane / 4)] = found.weighted[j][2 + c];
        }
    }
}
