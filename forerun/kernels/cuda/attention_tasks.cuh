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

// The quotient of numbers that are not negative: most are small, and 64 bits take much longer.
__device__ __forceinline__ Wide quotient(Wide a, int b) {
    return a >> 31 ? a / b : static_cast<Wide>(static_cast<unsigned>(a) / static_cast<unsigned>(b));
}

__device__ __forceinline__ int pages_of(const Arguments& a, int length) {
    if (length <= 0) return 0;
    return static_cast<int>((static_cast<unsigned>(length) - 1) / static_cast<unsigned>(a.page_size()) + 1);
}

__device__ __forceinline__ void note(Fault* fault, bool is_faulty, Fault found) {
    if (is_faulty) atomicMin(fault, found);
}

// Everything but the pages; notes the query rows and the KV length of each request on the way.
__device__ __forceinline__ void check_requests(const Arguments& a, int count, Fault* fault, int* queries, int* lengths) {
#pragma unroll 1
    for (int r = thread_of<Launch>(); r < count; r += Launch::threads) {
        const Wide first_row = load_global(a.query_pointers + r), stop_row = load_global(a.query_pointers + r + 1);
        const Wide first_page = load_global(a.page_pointers + r), stop_page = load_global(a.page_pointers + r + 1);
        const int length = load_global(a.kv_lengths + r);
        note(fault, stop_row < first_row || (r == 0 && first_row != 0), fault_of(BAD_POINTERS, r));
        note(fault, stop_page < first_page || (r == 0 && first_page != 0), fault_of(BAD_POINTERS, r, 1));
        note(fault, r == count - 1 && stop_row > a.rows(), fault_of(TOO_MANY_ROWS, nowhere));
        note(fault, r == count - 1 && stop_page > most_pages, fault_of(TOO_MANY_PAGES, nowhere));
        note(fault, length < 0, fault_of(BAD_LENGTH, r));
        note(fault, stop_row - first_row > length, fault_of(QUERY_LONGER_THAN_KV, r));
        note(fault, pages_of(a, length) > stop_page - first_page, fault_of(TOO_FEW_PAGES, r));
        queries[r] = static_cast<int>(stop_row - first_row);
        lengths[r] = length;
    }
}

// Pages that a thread loads, and looks at later.
constexpr int vectors_ahead = Launch::threads <= 512 ? 8 : 4;
struct Pages {
    int listed;
    uint4 ahead[vectors_ahead];
};
__device__ __forceinline__ int vector_at(int first, int i) { return first + i * Launch::threads + thread_of<Launch>(); }
__device__ __forceinline__ void load_vectors(const Arguments& a, int first, Pages& pages) {
#pragma unroll
    for (int i = 0; i < vectors_ahead; ++i) {
        const int vector = vector_at(first, i);
        pages.ahead[i] = load16_once(a.pages + 4 * vector, vector < pages.listed / 4);
    }
}
__device__ __forceinline__ unsigned greatest_of(const Pages& pages) {
    unsigned found = 0;
#pragma unroll
    for (int i = 0; i < vectors_ahead; ++i) {
        const uint4& v = pages.ahead[i];
        found = max(found, max(max(v.x, v.y), max(v.z, v.w)));
    }
    return found;
}

// Pages are looked at whoever they belong to. Only if one is not in the cache somebody asks whether its request needs
// it: then each of the thread's pages is looked at again.
__device__ __forceinline__ void check_page(const Arguments& a, int count, int at, Fault* fault, const int* lengths) {
    if (static_cast<unsigned>(load_global(a.pages + at)) < static_cast<unsigned>(a.cache_pages())) return;
    const int r = last_within(0, count, at, [&](int i) { return load_global(a.page_pointers + i); });
    note(fault, at - load_global(a.page_pointers + r) < pages_of(a, lengths[r]), fault_of(BAD_PAGE, r));
}
__device__ __forceinline__ void check_pages(
    const Arguments& a, int count, Pages& pages, Fault* fault, const int* lengths) {
    constexpr int stride = vectors_ahead * Launch::threads;
    const int vectors = pages.listed / 4, rest = 4 * vectors + thread_of<Launch>();
    unsigned greatest = greatest_of(pages);
#pragma unroll 1
    for (int first = stride; first < vectors; first += stride) {
        load_vectors(a, first, pages);
        greatest = max(greatest, greatest_of(pages));
    }
    if (rest < pages.listed) greatest = max(greatest, static_cast<unsigned>(load_global(a.pages + rest)));
    if (greatest < static_cast<unsigned>(a.cache_pages())) return;
#pragma unroll 1
    for (int first = 4 * thread_of<Launch>(); first < pages.listed; first += 4 * Launch::threads) {
#pragma unroll 1
        for (int at = first; at < min(first + 4, pages.listed); ++at) check_page(a, count, at, fault, lengths);
    }
    if (rest < pages.listed) check_page(a, count, rest, fault, lengths);
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
