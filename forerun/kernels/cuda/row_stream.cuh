// Matrices times a vector, for a grid that stays: a CTA takes consecutive rows, and each of its warps streams its part
// of them through a ring of tiles in shared memory. Bulk copies fill the ring, so that its first tiles are on their way
// before the wait, and no register holds them. How deep the ring is follows from the launch's shared memory.
//
// projection_add.cu and others include it into their namespaces, with this defined:
//     Weight                   the type of the matrices
//     columns                  of the matrices
//     normalized               whether the vector is normalized, so that it is in shared memory too
//     most_rows                of a CTA
//     bytes_on_their_way       of a warp, at most, while it fills its ring before the wait: some KB keep memory busy, and
//                              what is critical then (the vector, the stores of the kernel before) queues behind fewer
//     ahead_in_l2              how many tiles a warp asks for besides its ring, while memory is idle
//     start_of_cta(cta)        the first row of a CTA, which has those before the next CTA's
//     row_address(a, row)      where a row is

#include "bulk_copy.cuh"

static_assert(has_whole_warps<Launch>, "rows belong to warps");
constexpr int warps = warps_of<Launch>;

// A tile: what a warp takes of a row. Warps share a row that is longer than 4 KB.
__device__ constexpr int warps_a_row() {
    int count = 1;
    while (columns * static_cast<int>(sizeof(Weight)) > 4096 * count) count *= 2;
    return count;
}
constexpr int split = warps_a_row();
constexpr int groups = warps / split;
constexpr int tile = columns / split;  // elements
constexpr int tile_bytes = tile * static_cast<int>(sizeof(Weight));
static_assert(warps % split == 0, "rows are too long for so few warps: 4 KB a warp");
static_assert(
    tile * split == columns && tile_bytes % 16 == 0, "rows, and their parts, must be multiples of 16 bytes");

// What a lane takes at once: of the vector this is 16 bytes, so that the lanes of a warp read without gaps.
constexpr int piece = 4;  // elements
constexpr int pieces = tile / piece;
constexpr int steps = ceil_div(pieces, 32);

// Dynamic shared memory: the tiles of all warps, the normalized vector, an arrival for each tile, and a sum for each
// part of a row.
constexpr int vector_bytes = normalized ? columns * static_cast<int>(sizeof(float)) : 0;
constexpr int arrival_bytes = static_cast<int>(sizeof(Arrival));
constexpr int sum_bytes = split * most_rows * static_cast<int>(sizeof(float));
constexpr int room = Launch::shared_bytes - vector_bytes - sum_bytes;
constexpr int depth = least(greatest(1, ceil_div(most_rows, groups)), room / (warps * (tile_bytes + arrival_bytes)));
static_assert(room > 0 && depth > 0, "the launch's shared memory must hold a tile a warp and a sum a row");

// Of a warp, while it fills its ring.
constexpr int tiles_on_their_way = ceil_div(bytes_on_their_way, tile_bytes);

constexpr int vector_at = warps * depth * tile_bytes;
constexpr int arrivals_at = vector_at + vector_bytes;
constexpr int sums_at = arrivals_at + warps * depth * arrival_bytes;

__device__ __forceinline__ int lane() { return thread_of<Launch>() % 32; }
__device__ __forceinline__ int warp() { return thread_of<Launch>() / 32; }
__device__ __forceinline__ int group() { return warp() / split; }
__device__ __forceinline__ int part_of_row() { return warp() % split; }

__device__ __forceinline__ unsigned char* tile_at(int slot) {
    return dynamic_shared + (warp() * depth + slot) * tile_bytes;
}
__device__ __forceinline__ Arrival* arrival_at(int slot) {
    return reinterpret_cast<Arrival*>(dynamic_shared + arrivals_at) + warp() * depth + slot;
}
__device__ __forceinline__ float* sums() { return reinterpret_cast<float*>(dynamic_shared + sums_at); }

// The CTA's rows, and how many of them the warp's group has: every n-th one.
__device__ __forceinline__ int first_row() { return start_of_cta(cta_of<Launch>()); }
__device__ __forceinline__ int row_count() { return start_of_cta(cta_of<Launch>() + 1) - first_row(); }
__device__ __forceinline__ int rows_of_group() { return (row_count() - group() + groups - 1) / groups; }

__device__ __forceinline__ const Weight* tile_address(const Arguments& a, int number) {
    return row_address(a, first_row() + number * groups + group()) + part_of_row() * tile;
}

__device__ __forceinline__ void begin_tile(const Arguments& a, int number, int slot) {
    begin_copy(tile_at(slot), tile_address(a, number), tile_bytes, arrival_at(slot));
}

// Begins to load the first tiles of every warp; before the wait there is time for some of them to arrive.
__device__ __forceinline__ void fill_rings(const Arguments& a) {
    if (lane() == 0) {
        for (int slot = 0; slot < depth; ++slot) prepare(arrival_at(slot));
        publish_prepared();
        for (int slot = 0; slot < least(depth, rows_of_group()); ++slot) {
            if (tiles_on_their_way < depth && slot >= tiles_on_their_way) {
                await_arrival(arrival_at(slot - tiles_on_their_way), 0);
            }
            begin_tile(a, slot, slot);
        }
#pragma unroll 1
        for (int number = depth; number < least(depth + ahead_in_l2, rows_of_group()); ++number) {
            begin_prefetch(tile_address(a, number), tile_bytes);
        }
    }
    __syncwarp();
}

// What a lane has of the vector: the pieces by which it multiplies those of a tile.
using Vector = float[steps][piece];

__device__ __forceinline__ bool in_tile(int step) { return (step + 1) * 32 <= pieces || step * 32 + lane() < pieces; }

__device__ __forceinline__ int element_at(int step) { return part_of_row() * tile + (step * 32 + lane()) * piece; }

__device__ __forceinline__ void load_vector(const float* vector, Vector& x) {
#pragma unroll
    for (int step = 0; step < steps; ++step) load_floats(vector + element_at(step), x[step], in_tile(step));
}

// What a lane has of a tile in the ring.
struct alignas(sizeof(Weight) * piece) Piece {
    unsigned words[sizeof(Weight) * piece / 4];
};

__device__ __forceinline__ void take_tile(int slot, Piece (&w)[steps]) {
    const Piece* tile = reinterpret_cast<const Piece*>(tile_at(slot));
#pragma unroll
    for (int step = 0; step < steps; ++step) {
        w[step] = in_tile(step) ? tile[step * 32 + lane()] : Piece{};
    }
}

// Several sums at a time: a chain of additions takes longer than the copy of a tile.
__device__ __forceinline__ float multiplied(const Piece (&w)[steps], const Vector& x) {
    float products[piece] = {};
#pragma unroll
    for (int step = 0; step < steps; ++step) {
        float elements[piece];
        if constexpr (sizeof(Piece) == 8) widen<Weight>({w[step].words[0], w[step].words[1], 0, 0}, elements);
        else memcpy(elements, w[step].words, sizeof(Piece));
#pragma unroll
        for (int i = 0; i < piece; ++i) products[i] = fmaf(elements[i], x[step][i], products[i]);
    }
    return (products[0] + products[1]) + (products[2] + products[3]);
}

// Multiplies all rows of the CTA. After a barrier every thread may ask for sums.
__device__ __forceinline__ void multiply_rows(const Arguments& a, const Vector& x) {
    const int rows = rows_of_group();
    int slot = 0, parity = 0;
#pragma unroll 1
    for (int number = 0; number < rows; ++number) {
        Piece w[steps];
        __syncwarp();
        await_arrival(arrival_at(slot), parity);
        take_tile(slot, w);
        const float sum = warp_sum(multiplied(w, x));
        if (lane() == 0) {
            sums()[(number * groups + group()) * split + part_of_row()] = sum;
            // Only now: the sum has needed the whole tile. A copy that begins right after the loads of a tile may
            // overtake them, since they queue behind the loads of the vector.
            if (number + depth < rows) {
                free_for_copies();
                begin_tile(a, number + depth, slot);
            }
        }
        if (++slot == depth) {
            slot = 0;
            parity ^= 1;
        }
    }
}

__device__ __forceinline__ float sum_of_parts(const float* parts) {
    float sum = 0.0f;
#pragma unroll
    for (int part = 0; part < split; ++part) sum += parts[part];
    return sum;
}

// The product of the CTA's row number i.
__device__ __forceinline__ float product(int i) { return sum_of_parts(sums() + i * split); }
