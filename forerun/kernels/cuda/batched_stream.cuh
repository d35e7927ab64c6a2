// Matrices times a few vectors at once, by the tensor cores, for a grid that stays: the weights are read once for all
// vectors. A CTA takes consecutive rows, eight at a time, and its warps share their columns: each streams its part of
// eight rows, a tile, through a ring of its own in shared memory, as in row_stream.cuh.
//
// In mma.m16n8k16 the weights are the right operand, whose eight columns are eight rows of the matrix. The left operand
// has the vectors: a vector is the sum of two numbers of the weights' type for each element, the rounded one and what
// is left (batched_halves.cuh), in rows v and v + 8. So one product serves both, and what is lost of an element is
// about 2^-18 of it. The order of sums does not depend on how many vectors there are: each has the bits that it has
// alone.
//
// batched_projection.cu and others include it into their namespaces, with this defined:
//     Weight                   the type of the matrices: bf16 or f16
//     row_columns              of the matrices
//     columns                  those that the CTA multiplies
//     vectors                  how many, at most 8
//     most_rows                of a CTA
//     bytes_on_their_way       of a warp, at most, while it fills its ring before the wait
//     ahead_in_l2              how many tiles a warp asks for besides its ring, while memory is idle
//     ctas_a_share             how many neighbouring CTAs have the same rows
//     first_of_share(share)    the first row of a share, which has those before the next one's
//     first_column()           the first column that the CTA multiplies
//
// and then this:
//     row_address(a, row)      where a row is: row_of(a.w, row)

#include "bulk_copy.cuh"
#include "batched_halves.cuh"

static_assert(has_whole_warps<Launch>, "columns belong to warps");
static_assert(sizeof(Weight) == 2, "tensor cores multiply bf16 or f16");
static_assert(1 <= vectors && vectors <= 8, "a product takes eight vectors at most");
static_assert(columns % 8 == 0, "rows, and their parts, must be multiples of 16 bytes");
constexpr int warps = warps_of<Launch>;

// Columns are taken in steps of two products: a lane has eight of each row. Blocks of them follow each other if they
// are more than the warps' registers hold of the vectors.
constexpr int step_columns = 32;
constexpr int all_steps = ceil_div(columns, step_columns);
constexpr int blocks = ceil_div(all_steps, 8 * warps);
constexpr int steps = ceil_div(all_steps, blocks * warps);
constexpr bool whole = blocks * warps * steps * step_columns == columns;

// A tile: a warp's columns of eight rows.
constexpr int tile_rows = 8;
constexpr int row_bytes = 64 * steps;  // of a tile
constexpr int tile_bytes = tile_rows * row_bytes;

// What the warps have found of some tiles each, twice: while some put it together, others go on.
constexpr int most_tiles = ceil_div(most_rows, tile_rows);
constexpr int tiles_at_once = vectors > 4 ? 2 : 4;
constexpr int part = vectors * tile_rows;  // sums of a tile
constexpr int parts = least(2 * tiles_at_once, blocks * greatest(1, most_tiles));
constexpr int parts_bytes = parts * warps * part * static_cast<int>(sizeof(float));

// A few tiles are put together by who asks for their products.
constexpr bool put_together_late = blocks == 1 && most_tiles <= parts;
constexpr int sum_rows = most_tiles * tile_rows;
constexpr int sum_bytes = put_together_late ? 0 : vectors * sum_rows * static_cast<int>(sizeof(float));
constexpr int arrival_bytes = static_cast<int>(sizeof(Arrival));
constexpr int room = Launch::shared_bytes - parts_bytes - sum_bytes;
constexpr int depth = least(blocks * greatest(1, most_tiles), room / (warps * (tile_bytes + arrival_bytes)));
static_assert(room > 0 && depth > 0, "the launch's shared memory must hold a tile a warp and all sums");
constexpr int tiles_on_their_way = ceil_div(bytes_on_their_way, tile_bytes);

constexpr int parts_at = warps * depth * tile_bytes;
constexpr int sums_at = parts_at + parts_bytes;
constexpr int arrivals_at = sums_at + sum_bytes;
static_assert(arrivals_at % arrival_bytes == 0, "arrivals begin at multiples of their size");

__device__ __forceinline__ int lane() { return thread_of<Launch>() % 32; }
__device__ __forceinline__ int warp() { return thread_of<Launch>() / 32; }
__device__ __forceinline__ float* floats_at(int offset) { return reinterpret_cast<float*>(dynamic_shared + offset); }
__device__ __forceinline__ unsigned char* tile_at(int slot) {
    return dynamic_shared + (warp() * depth + slot) * tile_bytes;
}
__device__ __forceinline__ Arrival* arrival_at(int slot) {
    return reinterpret_cast<Arrival*>(dynamic_shared + arrivals_at) + warp() * depth + slot;
}

// The CTA's rows, and how many tiles a warp has of a block of columns.
__device__ __forceinline__ int first_row() { return first_of_share(cta_of<Launch>() / ctas_a_share); }
__device__ __forceinline__ int row_count() {
    return first_of_share(cta_of<Launch>() / ctas_a_share + 1) - first_row();
}
__device__ __forceinline__ int tile_count() { return (row_count() + tile_rows - 1) / tile_rows; }

// The warp's first column of a block, of those of the CTA, and how many it has.
__device__ __forceinline__ int column_of_block(int block) { return (block * warps + warp()) * steps * step_columns; }
__device__ __forceinline__ int columns_of_block(int block) {
    return whole ? steps * step_columns : least(steps * step_columns, greatest(0, columns - column_of_block(block)));
}

template <class T> __device__ __forceinline__ const unsigned char* row_of(const T* matrix, int row) {
    static_assert(is_same<T, Weight>, "matrices are of one type");
    return reinterpret_cast<const unsigned char*>(matrix) + static_cast<long long>(row) * (row_columns * 2);
}
__device__ __forceinline__ const unsigned char* row_address(const Arguments& a, int row);

// A row of one of the warp's tiles.
struct RowOfTile {
    const unsigned char* from;
    int rows, bytes;  // of the tile, of the row
};
__device__ __forceinline__ RowOfTile row_of_tile(const Arguments& a, int number, int row) {
    const int block = blocks == 1 ? 0 : number / tile_count();
    const int first = (blocks == 1 ? number : number % tile_count()) * tile_rows;
    const int column = first_column() + column_of_block(block);
    return {row_address(a, first_row() + first + row) + 2 * column, least(tile_rows, row_count() - first),
            2 * columns_of_block(block)};
}
// Begins to load a tile: a lane asks for each of its rows.
__device__ __forceinline__ void begin_tile(const Arguments& a, int number, int slot) {
    const RowOfTile row = row_of_tile(a, number, lane() % tile_rows);
    if (lane() == 0) expect(arrival_at(slot), row.rows * row.bytes);
    __syncwarp();
    if (lane() < row.rows && row.bytes > 0) {
        begin_expected_copy(tile_at(slot) + lane() * row_bytes, row.from, row.bytes, arrival_at(slot));
    }
}

// Begins to load the first tiles of every warp; before the wait there is time for some of them to arrive.
__device__ __forceinline__ void fill_rings(const Arguments& a) {
    if (lane() == 0) {
        for (int slot = 0; slot < depth; ++slot) prepare(arrival_at(slot));
        publish_prepared();
    }
    __syncwarp();
#pragma unroll 1
    for (int slot = 0; slot < least(depth, blocks * tile_count()); ++slot) {
        if (tiles_on_their_way < depth && slot >= tiles_on_their_way) {
            await_arrival(arrival_at(slot - tiles_on_their_way), 0);
        }
        begin_tile(a, slot, slot);
    }
#pragma unroll 1
    for (int number = depth; number < least(depth + ahead_in_l2, blocks * tile_count()); ++number) {
        const RowOfTile row = row_of_tile(a, number, lane() % tile_rows);
        if (lane() < row.rows && row.bytes > 0) begin_prefetch(row.from, row.bytes);
    }
}

// What a lane has of the vectors: elements of vector l / 4, rounded and left, in pairs for two products a step.
struct Vectors {
    unsigned words[steps][2][4];
};

// The warp's columns of a block, of vectors that are `row_columns` apart.
__device__ __forceinline__ void load_vectors(const Weight* x, int block, Vectors& to) {
    const int vector = lane() / 4, first = column_of_block(block) + lane() % 4 * 8;
    const Weight* from = x + 2 * (static_cast<long long>(vector) * row_columns + first_column() + first);
#pragma unroll
    for (int step = 0; step < steps; ++step) {
        const bool wanted = vector < vectors && (whole || first + step * step_columns < columns);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const uint4 words = load16(from + 2 * step * step_columns + 8 * i, wanted);
            to.words[step][i][0] = words.x;
            to.words[step][i][1] = words.y;
            to.words[step][i][2] = words.z;
            to.words[step][i][3] = words.w;
        }
    }
}

// Two steps of a lane's row of a tile. Rows are multiples of 128 bytes apart if their steps are even: those with odd
// numbers take the other step first then, so that the lanes of two rows read without conflicts.
__device__ __forceinline__ void take_steps(const unsigned char* row, uint4& first, uint4& second) {
    const bool swaps = steps % 2 == 0 && lane() / 4 % 2;
    const uint4 one = *reinterpret_cast<const uint4*>(row + (swaps ? 64 : 0));
    const uint4 other = *reinterpret_cast<const uint4*>(row + (swaps ? 0 : 64));
    first = swaps ? other : one;
    second = swaps ? one : other;
}

// Multiplies a tile, and leaves its sums for the others: those of vector l / 4 and two rows.
__device__ __forceinline__ void multiply_tile(const Vectors& x, int slot, int parity, int block, float* to) {
    await_arrival(arrival_at(slot), parity);
    const int column = column_of_block(block) + lane() % 4 * 8;
    const unsigned char* row = tile_at(slot) + lane() / 4 * row_bytes + lane() % 4 * 16;
    float even[4] = {}, odd[4] = {};
#pragma unroll
    for (int first = 0; first < steps; first += 2) {
        uint4 w[2];
        if (first + 1 < steps) take_steps(row + first * 64, w[0], w[1]);
        else w[0] = *reinterpret_cast<const uint4*>(row + first * 64);
#pragma unroll
        for (int i = 0; i < least(2, steps - first); ++i) {
            const int step = first + i;
            if (!whole && column + step * step_columns >= columns) w[i] = {0, 0, 0, 0};  // what nobody has copied
            multiply_add<Weight>(even, x.words[step][0], w[i].x, w[i].y);
            multiply_add<Weight>(odd, x.words[step][1], w[i].z, w[i].w);
        }
    }
    if (lane() / 4 < vectors) {
        float* sums = to + lane() / 4 * tile_rows + lane() % 4 * 2;
        sums[0] = (even[0] + odd[0]) + (even[2] + odd[2]);
        sums[1] = (even[1] + odd[1]) + (even[3] + odd[3]);
    }
}

__device__ __forceinline__ float* parts_of(int number, int warp) {
    return floats_at(parts_at) + (number % parts * warps + warp) * part;
}

// What the warps have found of a row of a tile, warp by warp.
__device__ __forceinline__ float sum_of_parts(int number, int i) {
    float sum = 0.0f;
#pragma unroll
    for (int w = 0; w < warps; ++w) sum += parts_of(number, w)[i];
    return sum;
}

// The product of the CTA's row number i with a vector.
__device__ __forceinline__ float* sum_at(int vector, int i) { return floats_at(sums_at) + vector * sum_rows + i; }
__device__ __forceinline__ float product(int vector, int i) {
    if constexpr (put_together_late) return sum_of_parts(i / tile_rows, vector * tile_rows + i % tile_rows);
    else return *sum_at(vector, i);
}

// Adds what the warps have found of the tiles of a block from one on to before another, block by block.
__device__ __forceinline__ void add_parts(int block, int first, int stop) {
    if constexpr (put_together_late) return;
    for (int i = thread_of<Launch>(); i < (stop - first) * part; i += Launch::threads) {
        const int number = first + i / part, tile = blocks == 1 ? number : number - block * tile_count();
        const float sum = sum_of_parts(number, i % part);
        float* all = sum_at(i % part / tile_rows, tile * tile_rows + i % tile_rows);
        *all = block > 0 ? *all + sum : sum;
    }
}

// Multiplies all rows of the CTA by the vectors, of which block 0 is loaded. Then every thread may ask for products.
// What can be done between them, by every warp, is done after the first tile.
template <class F>
__device__ __forceinline__ void multiply_rows(const Arguments& a, const Weight* from, Vectors& x, F between) {
    const int tiles = tile_count(), all = blocks * tiles;
    int slot = 0, parity = 0, block = 0, tile = 0, added = 0;
#pragma unroll 1
    for (int number = 0; number < all; ++number) {
        multiply_tile(x, slot, parity, block, parts_of(number, warp()));
        if (number == 0) between();
        // Only now: the sums have needed the whole tile.
        __syncwarp();
        if (number + depth < all) {
            free_for_copies();
            begin_tile(a, number + depth, slot);
        }
        if (++slot == depth) {
            slot = 0;
            parity ^= 1;
        }
        const bool ends = blocks > 1 ? ++tile == tiles : number + 1 == all;  // the block
        if (!put_together_late && (ends || number + 1 - added == tiles_at_once)) {
            __syncthreads();
            add_parts(block, added, number + 1);
            added = number + 1;
        }
        if (blocks > 1 && ends) {
            tile = 0;
            if (++block < blocks) load_vectors(from, block, x);
        }
    }
    __syncthreads();
}
