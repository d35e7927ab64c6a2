// Tasks of a batch of attention, as forerun.schedules.attention has them: what is wrong with a batch, and what its tiles
// cost. Costs and their sums have 64 bits; packed query rows have 31, of which the host makes sure.
#pragma once

#include "schedule_words.cuh"

constexpr int most_requests = Dims::R, most_pages = Dims::P, ctas = Dims::B - 1, most_items = Dims::I;
constexpr int axis_block = 64;  // positions between which a tile may be cut

__device__ __forceinline__ int pages_of(const Arguments& a, int length) {
    if (length <= 0) return 0;
    return static_cast<int>((static_cast<unsigned>(length) - 1) / static_cast<unsigned>(a.page_size()) + 1);
}

// What the batch says of a request.
struct Request {
    int first_row, stop_row, first_page, stop_page, length;
    __device__ __forceinline__ Wide rows() const { return static_cast<Wide>(stop_row) - first_row; }
    __device__ __forceinline__ Wide pages() const { return static_cast<Wide>(stop_page) - first_page; }
};
__device__ __forceinline__ Request load_request(const Arguments& a, int r) {
    return {load_global(a.query_pointers + r), load_global(a.query_pointers + r + 1), load_global(a.page_pointers + r),
            load_global(a.page_pointers + r + 1), load_global(a.kv_lengths + r)};
}

// Everything but the pages. Faults of the page pointers come behind those of the query pointers.
__device__ __forceinline__ void check_request(const Arguments& a, const Request& of, int r, int count, Fault* fault) {
    const bool is_first = r == 0, is_last = r == count - 1;
    const bool bad_rows = of.rows() < 0 || (is_first && of.first_row != 0);
    const bool bad_pages = of.pages() < 0 || (is_first && of.first_page != 0);
    const bool many_rows = is_last && of.stop_row > a.rows(), many_pages = is_last && of.stop_page > most_pages;
    const bool is_short = of.rows() > of.length, few_pages = of.length > of.pages() * a.page_size();
    if (!(bad_rows || bad_pages || many_rows || many_pages || of.length < 0 || is_short || few_pages)) return;
    note(fault, bad_rows, fault_of(BAD_POINTERS, r));
    note(fault, bad_pages, fault_of(BAD_POINTERS, r, 1));
    note(fault, many_rows, fault_of(TOO_MANY_ROWS, nowhere));
    note(fault, many_pages, fault_of(TOO_MANY_PAGES, nowhere));
    note(fault, of.length < 0, fault_of(BAD_LENGTH, r));
    note(fault, is_short, fault_of(QUERY_LONGER_THAN_KV, r));
    note(fault, few_pages, fault_of(TOO_FEW_PAGES, r));
}

// Tiles.

__device__ __forceinline__ int size_of_tiles(int packed) { return packed <= 16 ? 16 : packed <= 64 ? 64 : 128; }
__device__ __forceinline__ int tiles_of(const Arguments& a, int queries) {
    const int packed = queries * a.group();
    const int size = size_of_tiles(packed);
    return size == 128 ? ceil_div(packed, 128) : packed > 0;
}

__device__ __forceinline__ Tile tile_of(const Arguments& a, int queries, int length, int number) {
    const int packed = queries * a.group();
    Tile tile;
    tile.size = size_of_tiles(packed);
    // The last tile sees everything.
    const unsigned rows = (number + 1) * tile.size;
    tile.length = length;
    if (rows < packed) tile.length += static_cast<int>((rows - 1) / static_cast<unsigned>(a.group())) + 1 - queries;
    tile.blocks = (tile.length - 1) / axis_block + 1;
    tile.fixed = tile.size == 16 ? a.fixed_16() : tile.size == 64 ? a.fixed_64() : a.fixed_128();
    tile.per_block = tile.size == 16 ? a.block_16() : tile.size == 64 ? a.block_64() : a.block_128();
    return tile;
}
