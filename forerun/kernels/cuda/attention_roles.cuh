// A CTA of three warpgroups. It works off its items in runs: of small tiles (decode), for which the two warpgroups
// that compute load themselves, and of large ones (prefill). Between two runs all meet: their rings have the same memory.
#pragma once

constexpr int loading_registers = 72, computing_registers = 216;

#include "attention_tiles.cuh"
#include "attention_tile_loader.cuh"
#include "attention_tile_scores.cuh"
#include "attention_tile_results.cuh"
#include "attention_tile.cuh"

// The items from one on that have tiles of the same kind.
struct Run {
    Range range;
    bool is_large;
};
__device__ __forceinline__ Run run_from(const Arguments& a, const Range& all, int begin) {
    const auto is_large = [&](int number) { return load_global(a.items + 8LL * all.item(number) + 3) > step; };
    const bool kind = of_lane(is_large(begin));
    int end = begin;
    unsigned others = 0;
#pragma unroll 1
    while (others == 0 && end < all.count) {
        const int number = end + lane_in_warp();
        others = ~__ballot_sync(~0u, number < all.count && is_large(number) == kind);
        end += others == 0 ? 32 : __ffs(others) - 1;
    }
    end = of_lane(end);
    return {{all.first, all.all, begin, end - begin}, kind};
}

// The runs in order; `work_off` gets each, and what lives between them is little: the registers are for the items.
template <class F> __device__ __forceinline__ void for_each_run(const Arguments& a, int count, F work_off) {
#pragma unroll 1
    for (int begin = 0, stop = of_lane(count); begin < stop;) {
        const Run run = run_from(a, range_of_cta(a), begin);
        begin += run.range.count;
        work_off(run);
        cta_barrier();
    }
}

__device__ __forceinline__ void attend_in_roles(const Arguments& a, const Range& all) {
    open_tiles();
    if (of_lane(warp_in_cta()) < warps) {
        take_registers<computing_registers>();
        for_each_run(a, all.count, [&](const Run& run) {
            if (run.is_large) compute_tiles(a, run.range);
            else attend_items(a, run.range);
        });
    } else {
        give_registers<loading_registers>();
        for_each_run(a, all.count, [&](const Run& run) {
            if (run.is_large) load_tiles(a, run.range);
        });
    }
}
