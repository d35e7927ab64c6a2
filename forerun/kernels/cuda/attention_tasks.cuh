// Tasks of a batch of attention, as forerun.schedules.attention has them: what is wrong with a batch, and what its tiles
// cost. Costs and their sums have 64 bits; packed query rows have 31, of which the host makes sure.
#pragma once

#include "cta_scan.cuh"

using Wide = long long;

constexpr int most_requests = Dims::R, most_pages = Dims::P, ctas = Dims::B - 1, most_items = Dims::I;
constexpr int kv_block = 64;

// As forerun.schedules.status.Status.
enum Status {
    OK = 0,
    NO_REQUESTS = 1,
    TOO_MANY_REQUESTS = 2,
    BAD_POINTERS = 3,
    TOO_MANY_ROWS = 4,
    TOO_MANY_PAGES = 5,
    BAD_LENGTH = 6,
    QUERY_LONGER_THAN_KV = 7,
    TOO_FEW_PAGES = 8,
    BAD_PAGE = 9,
    TOO_MANY_ITEMS = 10,
    TOO_MUCH_WORK = 11,
    UNSPLIT = 64
};

// The fault with the smallest status is the one that is told, and of these the one of the first request. Faults of the
// page pointers come behind those of the query pointers.
using Fault = unsigned long long;
constexpr Fault no_fault = ~0ull;
__device__ __forceinline__ Fault fault_of(int status, int request, int second = 0) {
    return static_cast<Fault>(status) << 40 | static_cast<Fault>(second) << 32 | static_cast<unsigned>(request);
}
__device__ __forceinline__ int status_of(Fault fault) { return static_cast<int>(fault >> 40); }

// What a fault of the whole batch says instead of a request.
constexpr int nowhere = -1;

// The quotient of numbers that are not negative. Most have 32 bits. Others are divided bit by bit: that is slow, but a
// call of the compiler's division would cost everyone registers.
__device__ __forceinline__ Wide quotient(Wide a, Wide b) {
    if ((a | b) >> 32 == 0) return static_cast<unsigned>(a) / static_cast<unsigned>(b);
    Wide found = 0;
#pragma unroll 1
    for (int bit = __clzll(b) - __clzll(a); bit >= 0; --bit) {
        if (a >> bit < b) continue;
        a -= b << bit;
        found |= 1LL << bit;
    }
    return found;
}

__device__ __forceinline__ int pages_of(const Arguments& a, int length) {
    if (length <= 0) return 0;
    return static_cast<int>((static_cast<unsigned>(length) - 1) / static_cast<unsigned>(a.page_size()) + 1);
}

__device__ __forceinline__ void note(Fault* fault, bool is_faulty, Fault found) {
    if (is_faulty) atomicMin(fault, found);
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

// Everything but the pages.
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

struct Tile {
    int size, length, blocks, fixed, per_block;
};
__device__ __forceinline__ Tile tile_of(const Arguments& a, int queries, int length, int number) {
    const int packed = queries * a.group();
    Tile tile;
    tile.size = size_of_tiles(packed);
    const unsigned last_row = min((number + 1) * tile.size, packed) - 1;
    tile.length = length - queries + static_cast<int>(last_row / static_cast<unsigned>(a.group())) + 1;
    tile.blocks = (tile.length - 1) / kv_block + 1;
    tile.fixed = tile.size == 16 ? a.fixed_16() : tile.size == 64 ? a.fixed_64() : a.fixed_128();
    tile.per_block = tile.size == 16 ? a.block_16() : tile.size == 64 ? a.block_64() : a.block_128();
    return tile;
}
__device__ __forceinline__ Wide cost_of(const Tile& tile, int blocks) {
    return tile.fixed + static_cast<Wide>(tile.per_block) * blocks;
}
