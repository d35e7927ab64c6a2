// A CTA of four warpgroups. The first one works off the small tiles (decode) among the CTA's items, and the others the
// large ones (prefill): so the SM reads the KV of the ones while it multiplies for the others. They share no memory.
#pragma once

constexpr int small_registers = 136, computing_registers = 160, loading_registers = 56;

#include "attention_tiles.cuh"
#include "attention_tile_loader.cuh"
#include "attention_tile_scores.cuh"
#include "attention_tile_results.cuh"
#include "attention_tile.cuh"

// How many items from one on have tiles of the same kind, and whether those are large.
struct Run {
    int count;
    bool is_large;
};
__device__ __forceinline__ Run run_from(const Arguments& a, int first, int stop) {
    const auto is_large = [&](int item) { return load_global(a.items + 8LL * item + 3) > step; };
    const bool kind = of_lane(is_large(first));
    int end = first;
    unsigned others = 0;
#pragma unroll 1
    while (others == 0 && end < stop) {
        const int item = end + lane_in_warp();
        others = ~__ballot_sync(~0u, item < stop && is_large(item) == kind);
        end += others == 0 ? 32 : __ffs(others) - 1;
    }
    return {of_lane(end) - first, kind};
}

// The items of a kind, in runs. The CTA has a share of each half of the schedule: if the schedule keeps kinds apart, each
// half is of one kind, the first one of large tiles.
constexpr int shares = Dims::B - 1, first_half = shares / 2;
template <bool large, class F> __device__ __forceinline__ void for_each_run(const Arguments& a, F work_off) {
#pragma unroll 1
    for (int turn = 0; turn < 2; ++turn) {
        const Range all = large == (turn == 0) ? range_of_cta<0, first_half>(a)
                                               : range_of_cta<first_half, shares - first_half>(a);
        const int stop = of_lane(all.first + all.count);
#pragma unroll 1
        for (int first = of_lane(all.first); first < stop;) {
            const Run run = run_from(a, first, stop);
            if (run.is_large == large) work_off(Range{first, run.count});
            first += run.count;
        }
    }
}

// Whether the CTA has no small tiles, and large ones have the memory of those too. If the schedule does not keep kinds apart,
// nobody looks.
__device__ __forceinline__ bool has_large_only(const Arguments& a) {
    const Range first = range_of_cta<0, first_half>(a), second = range_of_cta<first_half, shares - first_half>(a);
    if (of_lane(second.count) > 0) return false;
    const int begin = of_lane(first.first), count = of_lane(first.count);
    if (count == 0) return false;
    const Run run = run_from(a, begin, begin + count);
    return run.is_large && run.count == count;
}

__device__ __forceinline__ void attend_in_roles(const Arguments& a) {
    open_tiles();
    const int warpgroup = of_lane(thread_of<Launch>() / 128);
    if (warpgroup == 0) {
        take_registers<small_registers>();
        for_each_run<false>(a, [&](const Range& range) {
            attend_items(a, range);
            meet();  // all are through with what is looked up
        });
        return;
    }
    const int blocks = has_large_only(a) ? blocks_alone : blocks_beside;
    if (warpgroup == 3) {
        give_registers<loading_registers>();
        TileLoader loader = {blocks, {}, {}};
        for_each_run<true>(a, [&](const Range& range) { loader.load(a, range); });
    } else {
        take_registers<computing_registers>();
        TileAttention attention = {blocks, warpgroup - 1, {}, {}, {}};
        for_each_run<true>(a, [&](const Range& range) { attention.compute(a, range); });
    }
}
