// Quantised weights as they lie in memory (forerun/kernels/packing.py): a tile is a number of units of 32 weights, plane
// after plane. A lane takes a unit, and multiplies it by 32 elements of the vector.
#pragma once

// 32 elements of a vector, and the sums of both halves.
struct Block {
    float elements[32], sums[2];
    __device__ __forceinline__ float sum() const { return sums[0] + sums[1]; }
};

// An entry of a plane, in shared memory; and in global memory.
template <class T> __device__ __forceinline__ T entry(const unsigned char* plane, int number) {
    return reinterpret_cast<const T*>(plane)[number];
}
template <class T> __device__ __forceinline__ T stored(const unsigned char* plane, int number) {
    return load_global(reinterpret_cast<const T*>(plane) + number);
}

__device__ __forceinline__ f16 lower_half(unsigned word) { return {static_cast<unsigned short>(word)}; }
__device__ __forceinline__ f16 upper_half(unsigned word) { return {static_cast<unsigned short>(word >> 16)}; }

// A byte as f32, by its place in the bits of 2^23: conversions are slow.
__device__ __forceinline__ float small_number(unsigned byte) { return __uint_as_float(0x4B000000u | byte) - 8388608.0f; }

// Bytes become f32 by their place in the bits of one, since conversions are slow: 7 bits in those of 128, which adds 128,
// for one instruction a byte. What they are all too large by is a multiple of the sum of the vector: sums begin at its
// negative.
constexpr float excess = 128.0f;
__device__ __forceinline__ float with_excess(unsigned word, int byte) {
    return __uint_as_float(__byte_perm(word, 0x43000000u, 0x7044 + (byte << 8)));
}

// `sum` and the products of 16 bytes of 7 bits, as floats with excess, with half of a block.
__device__ __forceinline__ float products(const unsigned (&words)[4], const Block& x, int half, float sum) {
    float other = 0.0f;
#pragma unroll
    for (int i = 0; i < 16; i += 2) {
        sum = fmaf(with_excess(words[i / 4], i % 4), x.elements[16 * half + i], sum);
        other = fmaf(with_excess(words[i / 4], i % 4 + 1), x.elements[16 * half + i + 1], other);
    }
    return sum + other;
}

// The same for signed bytes, exactly: those of 8 bits go into the bits of 2^23, from which they are taken at once.
__device__ __forceinline__ float signed_products(const uint4& quants, const Block& x, int half) {
    const unsigned words[4] = {quants.x, quants.y, quants.z, quants.w};
    float sums[2] = {};
#pragma unroll
    for (int i = 0; i < 16; ++i) {
        const unsigned bits = __byte_perm(words[i / 4] ^ 0x80808080u, 0x4B000000u, 0x7440 + i % 4);
        sums[i % 2] = fmaf(__uint_as_float(bits) - 8388736.0f, x.elements[16 * half + i], sums[i % 2]);
    }
    return sums[0] + sums[1];
}

// 32 nibbles: byte i has weight i in its low half, and weight 16 + i in its high half. Less `least` times the vector's sum.
__device__ __forceinline__ float nibble_products(const uint4& nibbles, const Block& x, float least = 0.0f) {
    const unsigned words[4] = {nibbles.x, nibbles.y, nibbles.z, nibbles.w};
    unsigned low[4], high[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        low[i] = words[i] & 0x0F0F0F0Fu;
        high[i] = words[i] >> 4 & 0x0F0F0F0Fu;
    }
    return products(low, x, 0, -(excess + least) * x.sums[0]) + products(high, x, 1, -(excess + least) * x.sums[1]);
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
    __device__ __forceinline__ static float multiplied(const Unit& w, const Block& x) {
        return widened(w.scale) * (signed_products(w.first, x, 0) + signed_products(w.second, x, 1));
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
    __device__ __forceinline__ static float multiplied(const Unit& w, const Block& x) {
        return widened(w.scale) * nibble_products(w.nibbles, x, 8.0f);
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
    __device__ __forceinline__ static float multiplied(const Unit& w, const Block& x) {
        const float sum = nibble_products(w.nibbles, x);
        return fmaf(widened(lower_half(w.scales)), sum, widened(upper_half(w.scales)) * x.sum());
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
    __device__ __forceinline__ static float multiplied(const Unit& w, const Block& x) {
        const float sum = nibble_products(w.nibbles, x);
        const float scale = widened(lower_half(w.of_block)) * small_number(w.of_unit & 255u);
        const float minimum = widened(upper_half(w.of_block)) * small_number(w.of_unit >> 8);
        return fmaf(scale, sum, -minimum * x.sum());
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
    __device__ __forceinline__ static unsigned quants(unsigned low, unsigned upper) {
        return low & 0x0F0F0F0Fu | upper & 0x30303030u;
    }
    __device__ __forceinline__ static float multiplied(const Unit& w, const Block& x) {
        const unsigned words[4] = {w.nibbles.x, w.nibbles.y, w.nibbles.z, w.nibbles.w};
        const unsigned first[4] = {
            quants(words[0], w.upper.x << 4), quants(words[1], w.upper.x << 2), quants(words[2], w.upper.x),
            quants(words[3], w.upper.x >> 2)};
        const unsigned second[4] = {
            quants(words[0] >> 4, w.upper.y << 4), quants(words[1] >> 4, w.upper.y << 2),
            quants(words[2] >> 4, w.upper.y), quants(words[3] >> 4, w.upper.y >> 2)};
        const float one = static_cast<float>(static_cast<signed char>(w.scales & 255));
        const float other = static_cast<float>(static_cast<signed char>(w.scales >> 8));
        const float sum = one * products(first, x, 0, -(excess + 32.0f) * x.sums[0]);
        return widened(w.of_block) * fmaf(other, products(second, x, 1, -(excess + 32.0f) * x.sums[1]), sum);
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
