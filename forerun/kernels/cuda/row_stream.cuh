// Matrices times a vector, for a grid that stays: a CTA takes consecutive rows, and each of its warps streams its part
// of them through a ring of tiles in shared memory. Bulk copies fill the ring, so that its first tiles are on their way
// before the wait, and no register holds them. How deep the ring is follows from the launch's shared memory.
//
// projection_add.cu and others include it into their namespaces, with this defined:
//     Weight                   the type of the matrices, unless a dimension is called like a packing (packings.cuh)
//     columns                  of the matrices
//     vector_is_shared         whether the vector goes through shared memory, once a CTA
//     most_rows                of a CTA
//     bytes_on_their_way       of a warp, at most, while it fills its ring before the wait: some KB keep memory busy, and
//                              what is critical then (the vector, the stores of the kernel before) queues behind fewer
//     ahead_in_l2              how many tiles a warp asks for besides its ring, while memory is idle
//     start_of_cta(cta)        the first row of a CTA, which has those before the next CTA's
//
// and then this:
//     row_address(a, row)      where a row is: row_of(a.w, row)

#include "bulk_copy.cuh"
#include "packed_rows.cuh"
#include "plain_rows.cuh"

static_assert(has_whole_warps<Launch>, "rows belong to warps");
constexpr int warps = warps_of<Launch>;

template <class Packing> struct RowsOf {
    using Type = PackedRows<Packing, columns>;
};
template <> struct RowsOf<NotPacked> {
    using Type = PlainRows<Weight, columns>;
};
using Rows = RowsOf<PackingOf<Dims>>::Type;
using Vector = Rows::Vector;

// Warps that share a row, and what each has of it.
constexpr int split = Rows::split;
constexpr int groups = warps / split;
constexpr int tile_bytes = Rows::tile_bytes;
static_assert(warps % split == 0, "rows are too long for so few warps: 4 KB a warp");

// Dynamic shared memory: the tiles of all warps, the vector, an arrival for each tile, and a sum for each part of a row.
constexpr int vector_bytes = vector_is_shared || Rows::needs_shared_vector ? Rows::vector_bytes : 0;
constexpr int arrival_bytes = static_cast<int>(sizeof(Arrival));
constexpr int sum_bytes = split * most_rows * static_cast<int>(sizeof(float));
constexpr int room = Launch::shared_bytes - vector_bytes - sum_bytes;
constexpr int wanted = greatest(1, ceil_div(most_rows, groups));
constexpr int most_depth = room / (warps * (tile_bytes + arrival_bytes));
static_assert(room > 0 && most_depth > 0, "the launch's shared memory must hold a tile a warp and a sum a row");

// Rows that a warp multiplies at once; a ring holds whole batches.
__device__ constexpr int batch_of(int rows) {
    int count = Rows::most_at_once;
    while (count > 1 && (count >= 2 * rows || count > most_depth)) count /= 2;
    return count;
}
constexpr int batch = batch_of(wanted);
constexpr int depth = least(ceil_div(wanted, batch), most_depth / batch) * batch;

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

// Row number `row` of a matrix.
template <class T> __device__ __forceinline__ const unsigned char* row_of(const T* matrix, int row) {
    return reinterpret_cast<const unsigned char*>(matrix) + static_cast<long long>(row) * Rows::row_bytes;
}
__device__ __forceinline__ const unsigned char* row_address(const Arguments& a, int row);

__device__ __forceinline__ const unsigned char* tile_address(const Arguments& a, int number) {
    return row_address(a, first_row() + number * groups + group()) + part_of_row() * tile_bytes;
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

// A thread's share of the vector, if all put theirs into shared memory: 16 bytes of each of several parts.
constexpr int share = 4;  // elements
constexpr int shares = ceil_div(columns / share, Launch::threads);
using Shares = float[shares][share];

__device__ __forceinline__ int share_at(int i) { return (i * Launch::threads + thread_of<Launch>()) * share; }

__device__ __forceinline__ void load_shares(const float* from, Shares& to) {
#pragma unroll
    for (int i = 0; i < shares; ++i) load_floats(from + share_at(i), to[i], share_at(i) < columns);
}

__device__ __forceinline__ unsigned char* shared_vector() { return dynamic_shared + vector_at; }

__device__ __forceinline__ void put_shares(const Shares& from) {
#pragma unroll
    for (int i = 0; i < shares; ++i) Rows::put(shared_vector(), share_at(i), from[i]);
}

// After a barrier.
__device__ __forceinline__ void get_vector(Vector& x) { Rows::get(shared_vector(), part_of_row(), lane(), x); }

// A vector as it is.
template <class R = Rows> __device__ __forceinline__ void load_vector(const float* vector, Vector& x) {
    if constexpr (vector_is_shared || R::needs_shared_vector) {
        Shares all;
        load_shares(vector, all);
        put_shares(all);
        __syncthreads();
        get_vector(x);
    } else {
        R::load(vector, part_of_row(), lane(), x);
    }
}

// The sums over a warp of several values a lane, a power of two of them: lane i * 32 / count has the one of value i.
// Lanes give away half of their values at a time, which takes about a shuffle a value instead of five.
template <int count> __device__ __forceinline__ float sum_of_each(float (&values)[count]) {
    int distance = 16;
#pragma unroll
    for (int left = count; left > 1; left /= 2, distance /= 2) {
        const bool upper = lane() & distance;
#pragma unroll
        for (int i = 0; i < left / 2; ++i) {
            const float kept = upper ? values[i + left / 2] : values[i];
            const float given = upper ? values[i] : values[i + left / 2];
            values[i] = kept + __shfl_xor_sync(~0u, given, distance);
        }
    }
#pragma unroll
    for (; distance > 0; distance /= 2) values[0] += __shfl_xor_sync(~0u, values[0], distance);
    return values[0];
}

// Multiplies the rows from the group's row `first` on, whose tiles are in the ring from `slot` on: a batch, or fewer.
template <bool whole>
__device__ __forceinline__ void multiply_batch(
    const Arguments& a, const Vector& x, int first, int rows, int slot, int parity) {
    float values[batch];
    __syncwarp();
#pragma unroll
    for (int i = 0; i < batch; ++i) {
        if (whole || first + i < rows) await_arrival(arrival_at(slot + i), parity);
    }
    Rows::multiply(
        tile_at(slot), whole ? batch : rows - first, shared_vector(), part_of_row(), lane(), x, values);
    const float sum = sum_of_each(values);
    const int own = lane() * batch / 32;
    if (lane() % (32 / batch) == 0 && first + own < rows) {
        sums()[((first + own) * groups + group()) * split + part_of_row()] = sum;
    }
    // Only now: the sums have needed the whole tiles. A copy that begins right after the loads of a tile may overtake
    // them, since they queue behind the loads of the vector.
    if (lane() == 0 && first + depth < rows) {
        free_for_copies();
#pragma unroll
        for (int i = 0; i < batch; ++i) {
            if (first + i + depth < rows) begin_tile(a, first + i + depth, slot + i);
        }
    }
}

// Multiplies all rows of the CTA. After a barrier every thread may ask for sums.
__device__ __forceinline__ void multiply_rows(const Arguments& a, const Vector& x) {
    const int rows = rows_of_group();
    int slot = 0, parity = 0;
#pragma unroll 1
    for (int first = 0; first < rows; first += batch) {
        if (batch == 1 || first + batch <= rows) multiply_batch<true>(a, x, first, rows, slot, parity);
        else multiply_batch<false>(a, x, first, rows, slot, parity);
        slot += batch;
        if (slot == depth) {
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
