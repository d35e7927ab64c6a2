// Tasks of a batch of attention, as forerun.schedules.attention has them: what is wrong with a batch, and what its tiles
// cost. Sizes of 64 bits are those that a product or a sum may need.
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

__device__ __forceinline__ Wide pages_of(const Arguments& a, Wide length) {
    return (length + a.page_size() - 1) / a.page_size();
}

__device__ __forceinline__ void note(Fault* fault, bool is_faulty, Fault found) {
    if (is_faulty) atomicMin(fault, found);
}

// Everything but the pages; notes the query rows and the KV length of each request on the way.
__device__ __forceinline__ void check_requests(const Arguments& a, int count, Fault* fault, int* queries, int* lengths) {
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

// Pages are looked at one by one, whoever they belong to, and only of one that is not in the cache somebody asks whether
// its request needs it.
__device__ __forceinline__ void check_page(
    const Arguments& a, int count, int at, int page, Fault* fault, const int* lengths) {
    if (static_cast<unsigned>(page) < static_cast<unsigned>(a.cache_pages())) return;
    const int r = last_within(0, count, at, [&](int i) { return load_global(a.page_pointers + i); });
    const bool is_needed = at - load_global(a.page_pointers + r) < pages_of(a, lengths[r]);
    note(fault, is_needed, fault_of(BAD_PAGE, r));
}

// Pages that a thread loads, and looks at later.
constexpr int vectors_ahead = 4;
struct Pages {
    uint4 ahead[vectors_ahead];
};
__device__ __forceinline__ void load_pages(const Arguments& a, int listed, Pages& pages) {
#pragma unroll
    for (int i = 0; i < vectors_ahead; ++i) {
        const int vector = i * Launch::threads + thread_of<Launch>();
        pages.ahead[i] = load16_once(a.pages + 4 * vector, 4 * vector + 4 <= listed);
    }
}
__device__ __forceinline__ void check_vector(
    const Arguments& a, int count, int vector, const uint4& v, Fault* fault, const int* lengths) {
    const unsigned greatest = max(max(v.x, v.y), max(v.z, v.w));
    if (greatest < static_cast<unsigned>(a.cache_pages())) return;
    const unsigned words[] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) check_page(a, count, 4 * vector + i, static_cast<int>(words[i]), fault, lengths);
}
__device__ __forceinline__ void check_pages(
    const Arguments& a, int count, int listed, const Pages& pages, Fault* fault, const int* lengths) {
    const int thread = thread_of<Launch>(), vectors = listed / 4;
#pragma unroll
    for (int i = 0; i < vectors_ahead; ++i) {
        const int vector = i * Launch::threads + thread;
        if (vector < vectors) check_vector(a, count, vector, pages.ahead[i], fault, lengths);
    }
    for (int first = vectors_ahead * Launch::threads; first < vectors; first += vectors_ahead * Launch::threads) {
        uint4 more[vectors_ahead];
#pragma unroll
        for (int i = 0; i < vectors_ahead; ++i) {
            const int vector = first + i * Launch::threads + thread;
            more[i] = load16_once(a.pages + 4 * vector, vector < vectors);
        }
#pragma unroll
        for (int i = 0; i < vectors_ahead; ++i) {
            const int vector = first + i * Launch::threads + thread;
            if (vector < vectors) check_vector(a, count, vector, more[i], fault, lengths);
        }
    }
    const int rest = 4 * vectors + thread;
    if (rest < listed) check_page(a, count, rest, load_global(a.pages + rest), fault, lengths);
}

// Tiles.

__device__ __forceinline__ int size_of_tiles(Wide packed) { return packed <= 16 ? 16 : packed <= 64 ? 64 : 128; }
__device__ __forceinline__ int tiles_of(const Arguments& a, int queries) {
    const Wide packed = static_cast<Wide>(queries) * a.group();
    const int size = size_of_tiles(packed);
    return static_cast<int>((packed + size - 1) / size);
}

struct Tile {
    int size, length, blocks, fixed, per_block;
};
__device__ __forceinline__ Tile tile_of(const Arguments& a, int queries, int length, int number) {
    const Wide packed = static_cast<Wide>(queries) * a.group();
    Tile tile;
    tile.size = size_of_tiles(packed);
    const Wide behind = static_cast<Wide>(number + 1) * tile.size;
    const Wide last_row = (behind < packed ? behind : packed) - 1;
    tile.length = length - queries + static_cast<int>(last_row / a.group()) + 1;
    tile.blocks = tile.length / kv_block + (tile.length % kv_block != 0);
    tile.fixed = tile.size == 16 ? a.fixed_16() : tile.size == 64 ? a.fixed_64() : a.fixed_128();
    tile.per_block = tile.size == 16 ? a.block_16() : tile.size == 64 ? a.block_64() : a.block_128();
    return tile;
}
__device__ __forceinline__ Wide cost_of(const Tile& tile, int blocks) {
    return tile.fixed + static_cast<Wide>(tile.per_block) * blocks;
}
