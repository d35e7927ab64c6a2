// What a warpgroup has found for 64 packed rows: to the results, or to a slot; and how slots become results.
#pragma once

__device__ __forceinline__ void write_tile(const Arguments& a, const Work& work, int first_row, TileSums& found) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        float sum = found.sum[h];
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        const int r = first_row + tile_row(h), column = lane_in_warp() % 4 * 2;
        if (r >= work.rows) continue;
        if (work.slot < 0) {
            const int packed_row = work.first_packed + r;
            const long long q_row = work.first_row + packed_row / group;
            const int head = work.kv_head * group + packed_row % group;
            unsigned* words = reinterpret_cast<unsigned*>(a.y + (q_row * Dims::H + head) * Dims::HD + column);
            const float share = 1.0f / sum;
#pragma unroll
            for (int j = 0; j < Dims::HD / 8; ++j) {
                const float* pair = &found.weighted[4 * j + 2 * h];
                words[4 * j] = packed<Element>(pair[0] * share, pair[1] * share);
            }
        } else {
            const long long place = place_of(work.slot, r);
            float* pairs = a.partial + place * Dims::HD + column;
#pragma unroll
            for (int j = 0; j < Dims::HD / 8; ++j) {
                const float* pair = &found.weighted[4 * j + 2 * h];
                *reinterpret_cast<float2*>(pairs + 8 * j) = {pair[0], pair[1]};
            }
            if (lane_in_warp() % 4 == 0) *reinterpret_cast<float2*>(a.statistics + 2 * place) = {found.greatest[h], sum};
        }
    }
}

// Rows of all splits of a task, `distance` apart: several at once, since each waits for what it loads.
template <int count>
__device__ __forceinline__ void rows_of_splits(
    const Arguments& a, int first, int splits, int r, int distance, Row (&rows)[count]) {
#pragma unroll
    for (int j = 0; j < count; ++j) {
        rows[j] = {-infinity(), 0.0f, {}};
        for (int i = lane_in_warp(); i < splits; i += 32) {
            const float greatest = load_global(a.statistics + 2 * place_of(first + i, r + j * distance));
            rows[j].greatest = fmaxf(rows[j].greatest, greatest);
        }
    }
#pragma unroll
    for (int j = 0; j < count; ++j) {
#pragma unroll
        for (int d = 16; d > 0; d /= 2) rows[j].greatest = fmaxf(rows[j].greatest, __shfl_xor_sync(~0u, rows[j].greatest, d));
    }
#pragma unroll 1
    for (int i = 0; i < splits; ++i) {
        float weighted[count][4], greatest[count], sum[count];
#pragma unroll
        for (int j = 0; j < count; ++j) {
            const long long place = place_of(first + i, r + j * distance);
            load_floats(a.partial + place * Dims::HD + element(), weighted[j]);
            greatest[j] = load_global(a.statistics + 2 * place);
            sum[j] = load_global(a.statistics + 2 * place + 1);
        }
#pragma unroll
        for (int j = 0; j < count; ++j) {
            rows[j].add(greatest[j], sum[j], make_float4(weighted[j][0], weighted[j][1], weighted[j][2], weighted[j][3]));
        }
    }
}

// Counts the tile as arrived, and writes the task's results if it is the last one to; called by both warpgroups.
__device__ __forceinline__ void merge_tile(const Arguments& a, const Work& work) {
    constexpr int at_once = 8;
    Tiles& shared = tiles_in_shared();
    const int first = load_global(a.counters + 2 * work.counter), splits = load_global(a.counters + 2 * work.counter + 1);
    meet_for_tile();  // all threads have stored
    if (thread_of<Launch>() == first_tile_thread) {
        const unsigned last = static_cast<unsigned>(splits - 1);
        shared.is_last = arrive_and_count(a.arrived + work.counter, last) == last;
    }
    meet_for_tile();
    if (!shared.is_last) return;
    int r = warp_in_cta() - first_tile_thread / 32;
#pragma unroll 1
    for (; r + (at_once - 1) * tile_warps < work.rows; r += at_once * tile_warps) {
        Row rows[at_once];
        rows_of_splits(a, first, splits, r, tile_warps, rows);
#pragma unroll
        for (int j = 0; j < at_once; ++j) write_result(a, work, r + j * tile_warps, rows[j]);
    }
#pragma unroll 1
    for (; r < work.rows; r += tile_warps) write_result(a, work, r, row_of_splits(a, first, splits, r));
}
