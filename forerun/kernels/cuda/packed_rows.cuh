// Rows of quantised blocks: how a warp takes a tile of them, and multiplies it by its part of the vector.
//
// The vector is in fixed point, each block of 32 elements with a scale of its own: 23 bits, in planes of bytes, so that
// four products are one instruction (dp4a) a plane, and sums over a block are exact in integers of 32 bits: 32 products of
// 128 by 128, for each plane. An element is rounded to a multiple of m / 4161536, where m is the greatest of its block, so it is off by at
// most 1.21e-7 m; and all of a block by the same factor, which differs from one by at most 2^-21 (factor and scale). The
// rest is f32: a product and a sum for a block.

#include "packings.cuh"

// Where a warp has its part of the vector: in registers, 26 for 32 elements a lane; or in shared memory, from where it
// reads each block once for all rows of a batch. And how many rows that is. benchmarks/quantised_variants.py changes them.
constexpr bool vector_in_registers = false;
constexpr int rows_at_once = 2;

template <class P, int columns> struct PackedRows {
    __device__ static constexpr int bytes_of_tile(int weights) { return ceil_div(P::bytes(weights / 32), 16) * 16; }
    __device__ static constexpr int warps_a_row() {
        int count = 1;
        while (columns > 2048 * count || bytes_of_tile(columns / count) > 4096) count *= 2;
        return count;
    }
    static constexpr int split = warps_a_row();
    static constexpr int units = columns / split / 32;
    static constexpr int tile_bytes = bytes_of_tile(columns / split);
    static constexpr int row_bytes = split * tile_bytes;
    static constexpr int steps = ceil_div(units, 32);
    static_assert(columns % (P::block * split) == 0, "rows, and their parts, must be whole blocks");

    using Vector = FixedPoint[vector_in_registers ? steps : 1];  // never set, if it is not kept

    // Tiles are small, and a warp has few: it would wait for each of them, its loads and its sum.
    static constexpr int most_at_once = rows_at_once;

    // The vector in shared memory, by blocks: of each plane of bytes both halves; then scales, and the sums of blocks.
    static constexpr bool needs_shared_vector = true;
    static constexpr int blocks = columns / 32;
    static constexpr int scales_at = 32 * byte_planes * blocks;
    static constexpr int sums_of_blocks_at = scales_at + 4 * blocks;
    static constexpr int vector_bytes = (sums_of_blocks_at + 4 * blocks + 15) / 16 * 16;

    __device__ __forceinline__ static bool in_tile(int step, int lane) {
        return (step + 1) * 32 <= units || step * 32 + lane < units;
    }

    static constexpr float greatest_integer = 4161536.0f;  // less than 2^22, for the trick below

    // A byte of each of 4 integers.
    __device__ __forceinline__ static unsigned bytes_of(const unsigned (&integers)[4], int plane) {
        const unsigned two = 0x40 + 0x11 * plane;
        return __byte_perm(
            __byte_perm(integers[0], integers[1], two), __byte_perm(integers[2], integers[3], two), 0x5410);
    }

    // Puts a thread's share of the vector, 4 elements, into shared memory. 8 lanes have a block; all lanes of a warp
    // come here, with zeros for what is beyond the row. What is not finite makes the scale so, and with it all products.
    __device__ __forceinline__ static void put(unsigned char* shared, int column, const float (&share)[4]) {
        unsigned greatest = 0;
#pragma unroll
        for (int i = 0; i < 4; ++i) greatest = max(greatest, __float_as_uint(share[i]) & 0x7FFFFFFFu);
#pragma unroll
        for (int distance = 1; distance < 8; distance *= 2) {
            greatest = max(greatest, __shfl_xor_sync(~0u, greatest, distance));
        }
        // Vectors so small that the quotient overflows are zero.
        const float most = __uint_as_float(greatest);
        const float factor = most > 1e-30f ? __fdividef(greatest_integer, most) : 0.0f;
        unsigned words[byte_planes], integers[4];
        int sum = 0;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            // The bits of 1.5 * 2^23 are those of the sum but for the integer.
            integers[i] = __float_as_uint(fmaf(share[i], factor, 12582912.0f)) - 0x4B400000u;
            sum += static_cast<int>(integers[i]);
        }
#pragma unroll
        for (int distance = 1; distance < 8; distance *= 2) sum += __shfl_xor_sync(~0u, sum, distance);
#pragma unroll
        for (int plane = 0; plane < byte_planes; ++plane) {
            words[plane] = bytes_of(integers, plane);
#pragma unroll
            for (int i = 0; i < 4; ++i) integers[i] += 128 << 8 * plane;  // what the signed byte has too little
        }
        if (column >= columns) return;
        const int block = column / 32, word = column % 32 / 4;
        unsigned* to = reinterpret_cast<unsigned*>(shared + word / 4 * 16 * blocks + 16 * block) + word % 4;
#pragma unroll
        for (int plane = 0; plane < byte_planes; ++plane) to[8 * blocks * plane] = words[plane];
        if (word == 0) {
            const float scale = most * (1.0f / greatest_integer);
            reinterpret_cast<float*>(shared + scales_at)[block] = scale;
            reinterpret_cast<float*>(shared + sums_of_blocks_at)[block] = scale * static_cast<float>(sum);
        }
    }

    __device__ __forceinline__ static FixedPoint block_of(const unsigned char* shared, int block) {
        FixedPoint x;
#pragma unroll
        for (int half = 0; half < 2 * byte_planes; ++half) {
            const uint4 words = entry<uint4>(shared + 16 * blocks * half, block);
            memcpy(&x.bytes[half / 2][4 * (half % 2)], &words, 16);
        }
        x.scale = entry<float>(shared + scales_at, block);
        x.sum = entry<float>(shared + sums_of_blocks_at, block);
        return x;
    }

    // What a warp keeps of its part of the vector, if anything.
    __device__ __forceinline__ static void get(const unsigned char* shared, int part, int lane, Vector& x) {
        if constexpr (vector_in_registers) {
#pragma unroll
            for (int step = 0; step < steps; ++step) {
                x[step] = block_of(shared, part * units + (in_tile(step, lane) ? step * 32 + lane : 0));
            }
        }
    }

    // What a lane has of the products of the first `present` of several rows, whose tiles lie one after the other.
    template <int count>
    __device__ __forceinline__ static void multiply(
        const unsigned char* tiles, int present, const unsigned char* shared, int part, int lane, const Vector& kept,
        float (&values)[count]) {
#pragma unroll
        for (int i = 0; i < count; ++i) values[i] = 0.0f;
#pragma unroll
        for (int step = 0; step < steps; ++step) {
            const int unit = step * 32 + lane;
            if (!in_tile(step, lane)) break;
            FixedPoint x;
            if constexpr (vector_in_registers) x = kept[step];
            else x = block_of(shared, part * units + unit);
#pragma unroll
            for (int i = 0; i < count; ++i) {
                if (i < present) values[i] += P::multiplied(P::template take<units>(tiles + i * tile_bytes, unit), x);
            }
        }
    }

    // A single weight of a row in global memory.
    __device__ __forceinline__ static float weight(const unsigned char* row, int column) {
        const unsigned char* tile = row + column / (32 * units) * tile_bytes;
        return P::template weight<units>(tile, column % (32 * units) / 32, column % 32);
    }
};
