// Rows of quantised blocks: how a warp multiplies tiles of several of them by its part of the vector.
//
// A lane widens its weights to f32, and multiplies by its elements of the vector, which come from shared memory once for
// all of these rows: so tiles can be long, and few registers hold the vector.

#include "packings.cuh"

template <class P, int columns> struct PackedRows {
    __device__ static constexpr int bytes_of_tile(int weights) { return ceil_div(P::bytes(weights / 32), 16) * 16; }
    __device__ static constexpr int warps_a_row() {
        int count = 1;
        while (columns > 4096 * count || bytes_of_tile(columns / count) > 4096) count *= 2;
        return count;
    }
    static constexpr int split = warps_a_row();
    static constexpr int units = columns / split / 32;
    static constexpr int tile_bytes = bytes_of_tile(columns / split);
    static constexpr int row_bytes = split * tile_bytes;
    static constexpr int steps = ceil_div(units, 32);
    static_assert(columns % (P::block * split) == 0, "rows, and their parts, must be whole blocks");

    struct Vector {};  // no registers hold it
    static constexpr int most_at_once = 4;

    // The vector in shared memory, and after it the sums of 16 elements. A lane reads 128 bytes at once: the 16 bytes of
    // blocks are in turns, so that lanes read from different banks.
    static constexpr bool needs_shared_vector = true;
    static constexpr int sums_of_halves_at = columns * static_cast<int>(sizeof(float));
    static constexpr int vector_bytes = (sums_of_halves_at + columns / 4 + 15) / 16 * 16;
    __device__ __forceinline__ static float4* quarter_at(unsigned char* shared, int block, int number) {
        return reinterpret_cast<float4*>(shared) + 8 * block + (number ^ block % 8);
    }

    __device__ __forceinline__ static bool in_tile(int step, int lane) {
        return (step + 1) * 32 <= units || step * 32 + lane < units;
    }

    // Puts a thread's share of the vector into shared memory; all lanes of a warp come here.
    __device__ __forceinline__ static void put(unsigned char* shared, int column, const float (&share)[4]) {
        float sum = (share[0] + share[1]) + (share[2] + share[3]);
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        if (column >= columns) return;
        *quarter_at(shared, column / 32, column % 32 / 4) = make_float4(share[0], share[1], share[2], share[3]);
        if (column % 16 == 0) reinterpret_cast<float*>(shared + sums_of_halves_at)[column / 16] = sum;
    }
    __device__ __forceinline__ static Block block_of(unsigned char* shared, int number) {
        Block x;
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const float4 v = *quarter_at(shared, number, i);
            x.elements[4 * i] = v.x;
            x.elements[4 * i + 1] = v.y;
            x.elements[4 * i + 2] = v.z;
            x.elements[4 * i + 3] = v.w;
        }
        const float2 sums = reinterpret_cast<const float2*>(shared + sums_of_halves_at)[number];
        x.sums[0] = sums.x;
        x.sums[1] = sums.y;
        return x;
    }

    // What a lane has of the products of several rows, whose tiles lie one after the other.
    template <int count>
    __device__ __forceinline__ static void multiply(
        const unsigned char* tiles, unsigned char* shared, int part, int lane, const Vector&, float (&values)[count]) {
#pragma unroll
        for (int i = 0; i < count; ++i) values[i] = 0.0f;
#pragma unroll
        for (int step = 0; step < steps; ++step) {
            const int unit = step * 32 + lane;
            if (!in_tile(step, lane)) break;
            const Block x = block_of(shared, part * units + unit);
#pragma unroll
            for (int i = 0; i < count; ++i) {
                values[i] += P::multiplied(P::template take<units>(tiles + i * tile_bytes, unit), x);
            }
        }
    }

    // A single weight of a row in global memory.
    __device__ __forceinline__ static float weight(const unsigned char* row, int column) {
        const unsigned char* tile = row + column / (32 * units) * tile_bytes;
        return P::template weight<units>(tile, column % (32 * units) / 32, column % 32);
    }
};
