// Quantised weights as they lie in memory (forerun/kernels/packing.py): a tile is a number of units of 32 weights, plane
// after plane. A lane takes a unit, and multiplies it by a block of 32 elements of the vector in fixed point.
#pragma once

// 32 elements of a vector: integers of three signed bytes, the lowest one first, times a scale; and their sum.
constexpr int byte_planes = 3;
struct FixedPoint {
    unsigned bytes[byte_planes][8];
    float scale, sum;
};

// An entry of a plane, in shared memory; and in global memory.
template <class T> __device__ __forceinline__ T entry(const unsigned char* plane, int number) {
    return reinterpret_cast<const T*>(plane)[number];
}
template <class T> __device__ __forceinline__ T stored(const unsigned char* plane, int number) {
    return load_global(reinterpret_cast<const T*>(plane) + number);
}

// Products of quants with the integers of a vector, summed byte by byte: exact up to the sum of the planes.
struct Products {
    int of_bytes[byte_planes] = {};

    // Adds those of 4 words of quants, of 4 bytes each, with the words of the vector from `from` on.
    __device__ __forceinline__ void add(const unsigned (&quants)[4], const FixedPoint& x, int from) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
            for (int plane = 0; plane < byte_planes; ++plane) {
                of_bytes[plane] = __dp4a(
                    static_cast<int>(quants[i]), static_cast<int>(x.bytes[plane][from + i]), of_bytes[plane]);
            }
        }
    }
    __device__ __forceinline__ float sum() const {
        return fmaf(static_cast<float>(of_bytes[2]), 65536.0f, static_cast<float>(256 * of_bytes[1] + of_bytes[0]));
    }
};

__device__ __forceinline__ f16 lower_half(unsigned word) { return {static_cast<unsigned short>(word)}; }
__device__ __forceinline__ f16 upper_half(unsigned word) { return {static_cast<unsigned short>(word >> 16)}; }

// A byte as f32, by its place in the bits of 2^23: conversions are slow.
__device__ __forceinline__ float small_number(unsigned byte) { return __uint_as_float(0x4B000000u | byte) - 8388608.0f; }

// 32 nibbles: byte i has weight i in its low half, and weight 16 + i in its high half.
__device__ __forceinline__ float nibble_products(const uint4& nibbles, const FixedPoint& x) {
    const unsigned words[4] = {nibbles.x, nibbles.y, nibbles.z, nibbles.w};
    unsigned low[4], high[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        low[i] = words[i] & 0x0F0F0F0Fu;
        high[i] = words[i] >> 4 & 0x0F0F0F0Fu;
    }
    Products found;
    found.add(low, x, 0);
    found.add(high, x, 4);
    return found.sum();
}
__device__ __forceinline__ int nibble(const unsigned char* plane, int unit, int i) {
    return stored<unsigned char>(plane, 16 * unit + i % 16) >> 4 * (i / 16) & 15;
}

// Each packing: the weights of a block in files, the bytes of so many units, what a lane takes of a unit and its product
// with a block of the vector, and a single weight.

// scale * quant
struct Q8_0 {
    static constexpr int block = 32;
    __device__ static constexpr int bytes(int units) { return 34 * units; }
    struct Unit {
        uint4 first, second;
        f16 scale;
    };
    template <int units> __device__ __forceinline__ static Unit take(const unsigned char* tile, int unit) {
        return {entry<uint4>(tile, unit), entry<uint4>(tile + 16 * units, unit), entry<f16>(tile + 32 * units, unit)};
    }
    __device__ __forceinline__ static float multiplied(const Unit& w, const FixedPoint& x) {
        const unsigned first[4] = {w.first.x, w.first.y, w.first.z, w.first.w};
        const unsigned second[4] = {w.second.x, w.second.y, w.second.z, w.second.w};
        Products found;
        found.add(first, x, 0);
        found.add(second, x, 4);
        return widened(w.scale) * x.scale * found.sum();
    }
    template <int units> __device__ __forceinline__ static float weight(const unsigned char* tile, int unit, int i) {
        const signed char quant = stored<signed char>(tile + 16 * units * (i / 16), 16 * unit + i % 16);
        return widened(stored<f16>(tile + 32 * units, unit)) * static_cast<float>(quant);
    }
};

// scale * (quant - 8)
struct Q4_0 {
    static constexpr int block = 32;
    __device__ static constexpr int bytes(int units) { return 18 * units; }
    struct Unit {
        uint4 nibbles;
        f16 scale;
    };
    template <int units> __device__ __forceinline__ static Unit take(const unsigned char* tile, int unit) {
        return {entry<uint4>(tile, unit), entry<f16>(tile + 16 * units, unit)};
    }
    __device__ __forceinline__ static float multiplied(const Unit& w, const FixedPoint& x) {
        return widened(w.scale) * fmaf(x.scale, nibble_products(w.nibbles, x), -8.0f * x.sum);
    }
    template <int units> __device__ __forceinline__ static float weight(const unsigned char* tile, int unit, int i) {
        return widened(stored<f16>(tile + 16 * units, unit)) * static_cast<float>(nibble(tile, unit, i) - 8);
    }
};

// scale * quant + minimum
struct Q4_1 {
    static constexpr int block = 32;
    __device__ static constexpr int bytes(int units) { return 20 * units; }
    struct Unit {
        uint4 nibbles;
        unsigned scales;
    };
    template <int units> __device__ __forceinline__ static Unit take(const unsigned char* tile, int unit) {
        return {entry<uint4>(tile, unit), entry<unsigned>(tile + 16 * units, unit)};
    }
    __device__ __forceinline__ static float multiplied(const Unit& w, const FixedPoint& x) {
        const float sum = x.scale * nibble_products(w.nibbles, x);
        return fmaf(widened(lower_half(w.scales)), sum, widened(upper_half(w.scales)) * x.sum);
    }
    template <int units> __device__ __forceinline__ static float weight(const unsigned char* tile, int unit, int i) {
        const unsigned scales = stored<unsigned>(tile + 16 * units, unit);
        const float scaled = __fmul_rn(widened(lower_half(scales)), static_cast<float>(nibble(tile, unit, i)));
        return __fadd_rn(scaled, widened(upper_half(scales)));
    }
};

// d * scale * quant - dmin * minimum; d and dmin belong to 8 units.
struct Q4_K {
    static constexpr int block = 256;
    __device__ static constexpr int bytes(int units) { return 18 * units + units / 2; }
    struct Unit {
        uint4 nibbles;
        unsigned of_block;
        unsigned short of_unit;
    };
    template <int units> __device__ __forceinline__ static Unit take(const unsigned char* tile, int unit) {
        return {
            entry<uint4>(tile, unit), entry<unsigned>(tile + 16 * units, unit / 8),
            entry<unsigned short>(tile + 16 * units + units / 2, unit)};
    }
    __device__ __forceinline__ static float multiplied(const Unit& w, const FixedPoint& x) {
        const float sum = x.scale * nibble_products(w.nibbles, x);
        const float scale = widened(lower_half(w.of_block)) * small_number(w.of_unit & 255u);
        const float minimum = widened(upper_half(w.of_block)) * small_number(w.of_unit >> 8);
        return fmaf(scale, sum, -minimum * x.sum);
    }
    template <int units> __device__ __forceinline__ static float weight(const unsigned char* tile, int unit, int i) {
        const unsigned of_block = stored<unsigned>(tile + 16 * units, unit / 8);
        const int of_unit = stored<unsigned short>(tile + 16 * units + units / 2, unit);
        const float scale = widened(lower_half(of_block)) * static_cast<float>(of_unit & 255);
        const float minimum = widened(upper_half(of_block)) * static_cast<float>(of_unit >> 8);
        return __fsub_rn(__fmul_rn(scale, static_cast<float>(nibble(tile, unit, i))), minimum);
    }
};

// d * scale * (quant - 32); a scale belongs to 16 weights, d to 8 units. Bits 2k and 2k + 1 of byte i of the upper ones
// belong to weight 4k + i, for i < 4, and to weight 16 + 4k + i - 4 else.
struct Q6_K {
    static constexpr int block = 256;
    __device__ static constexpr int bytes(int units) { return 26 * units + units / 4; }
    struct Unit {
        uint4 nibbles;
        uint2 upper;
        unsigned short scales;
        f16 of_block;
    };
    template <int units> __device__ __forceinline__ static Unit take(const unsigned char* tile, int unit) {
        return {
            entry<uint4>(tile, unit), entry<uint2>(tile + 16 * units, unit),
            entry<unsigned short>(tile + 24 * units, unit), entry<f16>(tile + 26 * units, unit / 8)};
    }
    // Words of 4 signed quants; no byte carries into the next: 63 + 96 is less than 256.
    __device__ __forceinline__ static unsigned quants(unsigned low, unsigned upper) {
        return ((low & 0x0F0F0F0Fu | upper & 0x30303030u) + 0x60606060u) ^ 0x80808080u;
    }
    __device__ __forceinline__ static float multiplied(const Unit& w, const FixedPoint& x) {
        const unsigned words[4] = {w.nibbles.x, w.nibbles.y, w.nibbles.z, w.nibbles.w};
        const unsigned first[4] = {
            quants(words[0], w.upper.x << 4), quants(words[1], w.upper.x << 2), quants(words[2], w.upper.x),
            quants(words[3], w.upper.x >> 2)};
        const unsigned second[4] = {
            quants(words[0] >> 4, w.upper.y << 4), quants(words[1] >> 4, w.upper.y << 2),
            quants(words[2] >> 4, w.upper.y), quants(words[3] >> 4, w.upper.y >> 2)};
        const float one = static_cast<float>(static_cast<signed char>(w.scales & 255));
        const float other = static_cast<float>(static_cast<signed char>(w.scales >> 8));
        Products of_first, of_second;
        of_first.add(first, x, 0);
        of_second.add(second, x, 4);
        return widened(w.of_block) * x.scale * fmaf(one, of_first.sum(), other * of_second.sum());
    }
    template <int units> __device__ __forceinline__ static float weight(const unsigned char* tile, int unit, int i) {
        const int upper = stored<unsigned char>(tile + 16 * units, 8 * unit + 4 * (i / 16) + i % 4) >> 2 * (i % 16 / 4) & 3;
        const int quant = (nibble(tile, unit, i) | upper << 4) - 32;
        const int scale = stored<signed char>(tile + 24 * units, 2 * unit + i / 16);
        return widened(stored<f16>(tile + 26 * units, unit / 8)) * static_cast<float>(scale) * static_cast<float>(quant);
    }
};

// The packing whose name is that of a dimension: the bytes of a row. Other rows are not packed.
struct NotPacked {};
template <class Dims> __device__ Q8_0 packing_among(decltype(Dims::Q8_0)*);
template <class Dims> __device__ Q4_0 packing_among(decltype(Dims::Q4_0)*);
template <class Dims> __device__ Q4_1 packing_among(decltype(Dims::Q4_1)*);
template <class Dims> __device__ Q4_K packing_among(decltype(Dims::Q4_K)*);
template <class Dims> __device__ Q6_K packing_among(decltype(Dims::Q6_K)*);
template <class Dims> __device__ NotPacked packing_among(...);
template <class Dims> using PackingOf = decltype(packing_among<Dims>(nullptr));
