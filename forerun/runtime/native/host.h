// What kernels of the host share: element types, dot products, and which part of the work a thread does.
#pragma once

#include <cmath>
#include <cstring>

struct bf16 { unsigned short bits; };
using f16 = _Float16;

inline float widened(float x) { return x; }
inline float widened(f16 x) { return static_cast<float>(x); }
inline float widened(bf16 x) {
    const unsigned bits = static_cast<unsigned>(x.bits) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

// One of several equal parts of some work; parts differ by one item at most.
struct Part {
    int number, parts;
    long begin(long items) const { return items * number / parts; }
    long end(long items) const { return items * (number + 1) / parts; }
};

// How many rows a thread reads at once. Cores of Intel's fetch more from eight streams than from one: 16 of them read 107
// GB/s of 66 MB that way, and 71 row by row. AMD's prefer one: 25 GB/s for 17.
#if defined(__AVX512F__) && !defined(__znver3__) && !defined(__znver4__) && !defined(__znver5__)
constexpr int ROWS_AT_ONCE = 8;
#else
constexpr int ROWS_AT_ONCE = 1;
#endif

constexpr int LANES = 16;

// Products of some rows, side by side. The order of a sum depends on the row's length alone.
template <int Rows, class T> inline void dots(const T* w, const float* x, long columns, float* y) {
    float sum[Rows][LANES] = {};
    const long whole = columns / LANES * LANES;
    for (long i = 0; i < whole; i += LANES) {
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r)
#pragma omp simd
            for (int k = 0; k < LANES; ++k) sum[r][k] += widened(w[r * columns + i + k]) * x[i + k];
    }
    for (int r = 0; r < Rows; ++r) {
        float total = 0.0f;
        for (int k = 0; k < LANES; ++k) total += sum[r][k];
        for (long i = whole; i < columns; ++i) total += widened(w[r * columns + i]) * x[i];
        y[r] = total;
    }
}

// y = w x, for some rows that follow each other.
template <class T> inline void products(const T* w, const float* x, long columns, float* y, long rows) {
    long row = 0;
    for (; row + ROWS_AT_ONCE <= rows; row += ROWS_AT_ONCE) dots<ROWS_AT_ONCE>(w + row * columns, x, columns, y + row);
    for (; row < rows; ++row) dots<1>(w + row * columns, x, columns, y + row);
}
