// Matrices times a few vectors at once, by the tensor cores, for a grid that stays: the weights are read once for all
// vectors. A CTA takes consecutive rows and streams them, eight at a time, through a ring of tiles in shared memory: bulk
// copies fill it, so that its first tiles are on their way before the wait. The warps share the columns of a tile.
//
// In mma.m16n8k16 the weights are the right operand, whose eight columns are eight rows of the matrix. The left operand
// has the vectors: a vector is the sum of two numbers of the weights' type for each element, the rounded one and what
// is left, in rows v and v + 8. So one product serves both, and what is lost of an element is about 2^-18 of it. The
// order of sums does not depend on how many vectors there are: each has the bits that it has alone.
//
// batched_projection.cu and others include it into their namespaces, with this defined:
//     Weight                   the type of the matrices: bf16 or f16
//     row_columns              of the matrices
//     columns                  those that the CTA multiplies
//     vectors                  how many, at most 8
//     normalized               whether the vectors are normalized; `scale` is in shared memory then
//     most_rows                of a CTA
//     bytes_on_their_way       at most, while the ring is filled before the wait
//     ahead_in_l2              how many tiles are asked for besides the ring, while memory is idle
//     ctas_a_share             how many neighbouring CTAs have the same rows
//     first_of_share(share)    the first row of a share, which has those before the next one's
//     first_column()           the first column that the CTA multiplies
//
// and then this:
//     row_address(a, row)      where a row is: row_of(a.w, row)

#include "bulk_copy.cuh"
#include "tensor_core.cuh"

static_assert(has_whole_warps<Launch>, "columns belong to warps");
static_assert(sizeof(Weight) == 2, "tensor cores multiply bf16 or f16");
static_assert(1 <= vectors && vectors <= 8, "a product takes eight vectors at most");
static_assert(columns % 8 == 0, "rows, and their parts, must be multiples of 16 bytes");
constexpr int warps = warps_of<Launch>;

// Columns are taken in steps of two products: a lane has eight of each row. Blocks of them follow each other if they are
// more than the warps' registers hold of the vectors.
constexpr int step_columns = 32;
constexpr int all_steps = ceil_div(columns, step_columns);
constexpr int blocks = ceil_div(all_steps, 8 * warps);
constexpr int steps = ceil_div(all_steps, blocks * warps);
constexpr bool whole = blocks * warps * steps * step_columns == columns;

// A tile: a block of columns of eight rows. Their distance lets the lanes of two rows read without conflicts.
constexpr int tile_rows = 8;
constexpr int block_columns = warps * steps * step_columns;
constexpr int row_distance = 64 * (warps * steps | 1);
constexpr int tile_bytes = tile_rows * row_distance;

// What the warps have found of a tile, twice: while some put it together, others go on.
constexpr int part = vectors * tile_rows;  // sums
constexpr int parts_bytes = 2 * warps * part * static_cast<int>(sizeof(float));

constexpr int most_tiles = ceil_div(most_rows, tile_rows);
constexpr int sum_rows = most_tiles * tile_rows;
constexpr int scale_bytes = normalized ? columns * static_cast<int>(sizeof(float)) : 0;
constexpr int sum_bytes = vectors * sum_rows * static_cast<int>(sizeof(float));
constexpr int square_bytes = normalized ? warps * 8 * static_cast<int>(sizeof(float)) : 0;
constexpr int arrival_bytes = static_cast<int>(sizeof(Arrival));
constexpr int room = Launch::shared_bytes - scale_bytes - parts_bytes - sum_bytes - square_bytes;
constexpr int depth = least(blocks * greatest(1, most_tiles), room / (tile_bytes + arrival_bytes));
static_assert(room > 0 && depth > 0, "the launch's shared memory must hold a tile and all sums");
constexpr int tiles_on_their_way = ceil_div(bytes_on_their_way, tile_bytes);

constexpr int scale_at = depth * tile_bytes;
constexpr int parts_at = scale_at + scale_bytes;
constexpr int sums_at = parts_at + parts_bytes;
constexpr int squares_at = sums_at + sum_bytes;
constexpr int arrivals_at = squares_at + square_bytes;
static_assert(arrivals_at % arrival_bytes == 0, "arrivals begin at multiples of their size");

__device__ __forceinline__ int lane() { return thread_of<Launch>() % 32; }
__device__ __forceinline__ int warp() { return thread_of<Launch>() / 32; }
__device__ __forceinline__ float* floats_at(int offset) { return reinterpret_cast<float*>(dynamic_shared + offset); }
__device__ __forceinline__ unsigned char* tile_at(int slot) { return dynamic_shared + slot * tile_bytes; }
__device__ __forceinline__ Arrival* arrival_at(int slot) {
    return reinterpret_cast<Arrival*>(dynamic_shared + arrivals_at) + slot;
}

// The CTA's rows, and how many tiles a block of columns has.
__device__ __forceinline__ int first_row() { return first_of_share(cta_of<Launch>() / ctas_a_share); }
__device__ __forceinline__ int row_count() {
    return first_of_share(cta_of<Launch>() / ctas_a_share + 1) - first_row();
}
__device__ __forceinline__ int tile_count() { return (row_count() + tile_rows - 1) / tile_rows; }

// A lane's first column of a block, of those of the CTA.
__device__ __forceinline__ int column_of_lane(int block) {
    return block * block_columns + warp() * steps * step_columns + lane() % 4 * 8;
}

template <class T> __device__ __forceinline__ const unsigned char* row_of(const T* matrix, int row) {
    static_assert(is_same<T, Weight>, "matrices are of one type");
    return reinterpret_cast<const unsigned char*>(matrix) + static_cast<long long>(row) * (row_columns * 2);
}
__device__ __forceinline__ const unsigned char* row_address(const Arguments& a, int row);

// One of the CTA's tiles.
struct Tile {
    int block, row, rows, bytes;  // of a row
};
__device__ __forceinline__ Tile tile_of(int number) {
    const int block = blocks == 1 ? 0 : number / tile_count();
    const int row = (blocks == 1 ? number : number % tile_count()) * tile_rows;
    const int width = whole ? block_columns : least(block_columns, columns - block * block_columns);
    return {block, row, least(tile_rows, row_count() - row), 2 * width};
}
__device__ __forceinline__ void expect_tile(int number, int slot) {
    const Tile tile = tile_of(number);
    expect(arrival_at(slot), tile.rows * tile.bytes);
}
__device__ __forceinline__ const unsigned char* address_in_tile(const Arguments& a, const Tile& tile, int row) {
    return row_address(a, first_row() + tile.row + row) + 2 * (first_column() + tile.block * block_columns);
}
// Begins to load a row of a tile, which is expected.
__device__ __forceinline__ void begin_row(const Arguments& a, int number, int row, int slot) {
    const Tile tile = tile_of(number);
    if (row >= tile.rows) return;
    const unsigned char* from = address_in_tile(a, tile, row);
    begin_expected_copy(tile_at(slot) + row * row_distance, from, tile.bytes, arrival_at(slot));
}

// The same into the L2 cache.
__device__ __forceinline__ void prefetch_row(const Arguments& a, int number, int row) {
    const Tile tile = tile_of(number);
    if (row < tile.rows) begin_prefetch(address_in_tile(a, tile, row), tile.bytes);
}

// Begins to load the first tiles; before the wait there is time for some of them to arrive. Only the first warp does;
// after a barrier the others may wait for them.
__device__ __forceinline__ void fill_ring(const Arguments& a) {
    if (warp() > 0) return;
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
        if (lane() == 0) expect_tile(slot, slot);
        __syncwarp();
        if (lane() < tile_rows) begin_row(a, slot, lane(), slot);
    }
#pragma unroll 1
    for (int number = depth; number < least(depth + ahead_in_l2, blocks * tile_count()); ++number) {
        if (lane() < tile_rows) prefetch_row(a, number, lane());
    }
}

// What a lane has of the vectors: elements of vector l / 4, in pairs for two products a step.
struct Vectors {
    unsigned words[steps][2][4];
    float squares;  // of its elements
};

// `scale`, for all: after a barrier.
__device__ __forceinline__ void put_scale(const float* scale) {
#pragma unroll 2
    for (int i = 4 * thread_of<Launch>(); i < columns; i += 4 * Launch::threads) {
        float four[4];
        load_floats(scale + i, four);
        store_floats(floats_at(scale_at) + i, four);
    }
}

// The warp's columns of a block, of vectors that are `row_columns` apart.
__device__ __forceinline__ void load_vectors(const float* x, int block, Vectors& to) {
    const int vector = lane() / 4, first = column_of_lane(block);
    const float* from = x + static_cast<long long>(vector) * row_columns + first_column() + first;
    float all[steps][8];
#pragma unroll
    for (int step = 0; step < steps; ++step) {
        const bool wanted = vector < vectors && (whole || first + step * step_columns < columns);
        load_floats(from + step * step_columns, all[step], wanted);
    }
    float squares[4] = {};
#pragma unroll
    for (int step = 0; step < steps; ++step) {
        if constexpr (normalized) {
            const int column = whole ? first + step * step_columns : least(first + step * step_columns, columns - 8);
            const float* scale = floats_at(scale_at) + column;
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                squares[i % 4] = fmaf(all[step][i], all[step][i], squares[i % 4]);
                all[step][i] *= scale[i];
            }
        }
#pragma unroll
        for (int pair = 0; pair < 4; ++pair) {
            const float low = all[step][2 * pair], high = all[step][2 * pair + 1];
            const unsigned rounded = packed<Weight>(low, high);
            const Weight halves[] = {{static_cast<unsigned short>(rounded)}, {static_cast<unsigned short>(rounded >> 16)}};
            unsigned(&words)[4] = to.words[step][pair / 2];
            words[pair % 2 * 2] = rounded;
            words[pair % 2 * 2 + 1] = packed<Weight>(low - widened(halves[0]), high - widened(halves[1]));
        }
    }
    to.squares = (block ? to.squares : 0.0f) + ((squares[0] + squares[1]) + (squares[2] + squares[3]));
}

// Multiplies the warp's columns of a tile, and leaves their sums for others: those of vector l / 4 and two rows.
__device__ __forceinline__ void multiply_tile(const Vectors& x, int slot, int block, float* to) {
    const int column = column_of_lane(block);
    const unsigned char* row = tile_at(slot) + lane() / 4 * row_distance + 2 * (column - block * block_columns);
    float even[4] = {}, odd[4] = {};
#pragma unroll
    for (int step = 0; step < steps; ++step) {
        uint4 w = *reinterpret_cast<const uint4*>(row + step * 64);
        if (!whole && column + step * step_columns >= columns) w = {0, 0, 0, 0};  // what nobody has copied
        multiply_add<Weight>(even, x.words[step][0], w.x, w.y);
        multiply_add<Weight>(odd, x.words[step][1], w.z, w.w);
    }
    if (lane() / 4 < vectors) {
        float* sums = to + lane() / 4 * tile_rows + lane() % 4 * 2;
        sums[0] = (even[0] + odd[0]) + (even[2] + odd[2]);
        sums[1] = (even[1] + odd[1]) + (even[3] + odd[3]);
    }
}

__device__ __forceinline__ float* parts_of(int half, int warp) {
    return floats_at(parts_at) + (half * warps + warp) * part;
}

// The product of the CTA's row number i with a vector.
__device__ __forceinline__ float& product(int vector, int i) { return floats_at(sums_at)[vector * sum_rows + i]; }

// Adds what the warps have found of a tile: warp by warp, block by block.
__device__ __forceinline__ void add_parts(int half, int first, int block) {
    for (int i = thread_of<Launch>(); i < part; i += Launch::threads) {
        float sum = 0.0f;
#pragma unroll
        for (int w = 0; w < warps; ++w) sum += parts_of(half, w)[i];
        float& all = product(i / tile_rows, first + i % tile_rows);
        all = block ? all + sum : sum;
    }
}

// Multiplies all rows of the CTA by the vectors, of which block 0 is loaded; after a barrier since the ring was filled.
// Then every thread may ask for products.
__device__ __forceinline__ void multiply_rows(const Arguments& a, const float* from, Vectors& x) {
    const int tiles = tile_count(), all = blocks * tiles;
    int slot = 0, parity = 0, number = 0;
#pragma unroll 1
    for (int block = 0; block < blocks; ++block) {
        if (block > 0) load_vectors(from, block, x);
#pragma unroll 1
        for (int tile = 0; tile < tiles; ++tile, ++number) {
            await_arrival(arrival_at(slot), parity);
            multiply_tile(x, slot, block, parts_of(number % 2, warp()));
            const bool refills = number + depth < all;
            if (refills && thread_of<Launch>() == 0) expect_tile(number + depth, slot);
            // Only then may the tile be overwritten: all sums have needed the whole of it.
            __syncthreads();
            if (refills && lane() == 0) {
                free_for_copies();
#pragma unroll
                for (int i = 0; i < ceil_div(tile_rows, warps); ++i) {
                    begin_row(a, number + depth, i * warps + warp(), slot);
                }
            }
            add_parts(number % 2, tile * tile_rows, block);
            if (++slot == depth) {
                slot = 0;
                parity ^= 1;
            }
        }
    }
    __syncthreads();
}
