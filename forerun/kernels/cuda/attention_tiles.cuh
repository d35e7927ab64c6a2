// What the warpgroups share of large tiles: two tiles of queries, a ring of blocks of keys and one of values. If a CTA has
// small tiles too, this lies behind their rings; else it has that memory for more blocks.
//
// A block has 64 positions, a tile 128 packed rows; each lies in panels of 64 elements, as warpgroup.cuh has matrices.
// Stage by stage, its arrival says that it is full, or that all who read it are through.
#pragma once

#include "warpgroup.cuh"

constexpr int tile_elements = has_tiles ? Dims::HD : 64;
constexpr int block = 64, tile_rows = 128, tile_warps = 8, loading_threads = 128, panel_bytes = 128;
constexpr int first_tile_thread = 32 * warps;  // of those that compute
constexpr int tile_panel = tile_rows * panel_bytes, block_panel = block * panel_bytes;
constexpr int tile_bytes = tile_rows * row_bytes, block_bytes = block * row_bytes, tiles = 2;
constexpr int room_for_blocks = Launch::shared_bytes - results_bytes - ring_alignment - 1024 - tiles * tile_bytes;
constexpr int blocks_alone = has_tiles ? least(8, room_for_blocks / (2 * block_bytes)) : 2;
constexpr int blocks_beside = has_tiles ? least(8, (room_for_blocks - rings_bytes) / (2 * block_bytes)) : 2;
static_assert(!has_tiles || blocks_beside >= 2, "keys and values each need two blocks in shared memory");

// A place in a ring, and the parity of its present round.
struct Place {
    int number, parity;
    __device__ __forceinline__ void advance(int count) {
        number = number + 1 == count ? 0 : number + 1;
        parity ^= number == 0;
    }
};

struct Tiles {
    Arrival full[tiles], empty[tiles];
    Arrival has_keys[blocks_alone], free_keys[blocks_alone], has_values[blocks_alone], free_values[blocks_alone];
    Work work[tiles];
    bool is_last;
};
__device__ __forceinline__ Tiles& tiles_in_shared() {
    __shared__ __align__(16) Tiles all;
    return all;
}
// Where tiles and blocks lie, from the end of shared memory on: two tiles, and before them as many blocks as there are.
__device__ __forceinline__ unsigned tiles_begin() {
    const unsigned end = shared_address(dynamic_shared) + Launch::shared_bytes;
    return (end - tiles * tile_bytes) & ~1023u;
}
__device__ __forceinline__ unsigned tile_at(int number) { return tiles_begin() + number * tile_bytes; }
__device__ __forceinline__ unsigned keys_at(int number) { return tiles_begin() - (number + 1) * 2 * block_bytes; }
__device__ __forceinline__ unsigned values_at(int number) { return keys_at(number) + block_bytes; }

// Called by all threads.
__device__ __forceinline__ void open_tiles() {
    Tiles& all = tiles_in_shared();
    if (thread_of<Launch>() == 0) {
        for (int i = 0; i < tiles; ++i) {
            prepare_for(&all.full[i], loading_threads + 1);
            prepare_for(&all.empty[i], tile_warps);
        }
        for (int i = 0; i < blocks_alone; ++i) {
            prepare_for(&all.has_keys[i], loading_threads);
            prepare_for(&all.has_values[i], loading_threads);
            prepare_for(&all.free_keys[i], tile_warps);
            prepare_for(&all.free_values[i], tile_warps);
        }
        publish_prepared();
    }
    cta_barrier();
}

// All warps that compute large tiles.
__device__ __forceinline__ void meet_for_tile() { named_barrier<2, 32 * tile_warps>(); }

// What a lane of the warp has. Even if all have the same, the compiler knows it only then.
__device__ __forceinline__ int of_lane(int x, int lane = 0) { return __shfl_sync(~0u, x, lane); }
__device__ __forceinline__ Work of_lane(const Work& w, int lane = 0) {
    return {of_lane(w.begin, lane),     of_lane(w.end, lane),          of_lane(w.slot, lane), of_lane(w.counter, lane),
            of_lane(w.kv_head, lane),   of_lane(w.first_packed, lane), of_lane(w.rows, lane), of_lane(w.first_page, lane),
            of_lane(w.first_row, lane), of_lane(w.past, lane),         {}};
}

// The positions that some row of a tile sees, in blocks: one at least.
struct Blocks {
    int begin, end, count;
};
__device__ __forceinline__ Blocks blocks_of(const Work& work) {
    const int end = least(work.end, work.past + (work.first_packed + work.rows - 1) / group + 1);
    return {work.begin, end, greatest(1, ceil_div(end - work.begin, block))};
}
