// What schedules of all families are made of: what is wrong with a batch, arrays in shared memory, and items.
#pragma once

#include "cta_scan.cuh"

using Wide = long long;

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

// The fault with the smallest status is the one that is told, and of these the one of the first owner.
using Fault = unsigned long long;
constexpr Fault no_fault = ~0ull;
__device__ __forceinline__ Fault fault_of(int status, int owner, int second = 0) {
    return static_cast<Fault>(status) << 40 | static_cast<Fault>(second) << 32 | static_cast<unsigned>(owner);
}
__device__ __forceinline__ int status_of(Fault fault) { return static_cast<int>(fault >> 40); }
__device__ __forceinline__ void note(Fault* fault, bool is_faulty, Fault found) {
    if (is_faulty) atomicMin(fault, found);
}

// What a fault of the whole batch says instead of an owner.
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

// As in forerun.schedules.policies.POLICIES.
enum Policy { PREFIX_SUMS = 0, LONGEST_FIRST = 1, ROUND_ROBIN = 2 };

// The first CTA of the grid writes where the items of CTAs begin, and the threads of the others take turns in writing items.
// Everything else each CTA does for itself.
constexpr int writes_heads = ctas_of<Launch> > 1;
struct Stride {
    int first, step;
};
__device__ __forceinline__ Stride threads_of_cta() { return {thread_of<Launch>(), Launch::threads}; }
__device__ __forceinline__ Stride threads_of_grid() {
    const int cta = cta_of<Launch>() - writes_heads;
    return {cta * Launch::threads + thread_of<Launch>(), (ctas_of<Launch> - writes_heads) * Launch::threads};
}

// An array in dynamic shared memory. It is known by its offset: what may be a pointer to anything is slower to read.
template <class T> struct Array {
    int offset;
    __device__ __forceinline__ T& operator[](int i) const {
        return reinterpret_cast<T*>(dynamic_shared + offset)[i];
    }
};

// The tile that a task makes: its rows, the extent of its long axis, the blocks of that, and what an item of it costs.
struct Tile {
    int size, length, blocks, fixed, per_block;
};
__device__ __forceinline__ Wide cost_of(const Tile& tile, int blocks) {
    return tile.fixed + static_cast<Wide>(tile.per_block) * blocks;
}

// An item: blocks `begin` to `end` of a task.
struct Piece {
    int owner, lane, number;  // of the tile
    Tile tile;
    int begin, end, slot, counter;
};

// What an owner has: tasks, and the extent of the long axis of each.
struct Owner {
    int tasks, length;
};

// An item, and where it begins and ends on the line of all work.
struct At {
    int item;
    Wide begin, end;
};
