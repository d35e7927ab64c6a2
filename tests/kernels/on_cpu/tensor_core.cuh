// Instead of the tensor cores: what all lanes of the warp have is put together, and each computes its own part.
#pragma once

// What the lanes give, from lane 0 on; it stands until the warp's next exchange.
template <int count> inline const unsigned* words_of_warp(const unsigned (&own)[count]) {
    static std::vector<unsigned> words(32 * 64 * 8);
    const unsigned self = on_cpu::current->number;
    unsigned* warp = &words[self / 32 * 32 * 8];
    on_cpu::arrive(on_cpu::warps[self / 32]);
    for (int i = 0; i < count; ++i) warp[self % 32 * 8 + i] = own[i];
    on_cpu::arrive(on_cpu::warps[self / 32]);
    return warp;
}

// An element of a fragment: half `column % 2` of a word.
template <class T> float half_of(unsigned word, int half) {
    return widened(T{static_cast<unsigned short>(word >> 16 * half)});
}

template <class T> inline unsigned packed(float low, float high) {
    return narrowed<T>(low).bits | static_cast<unsigned>(narrowed<T>(high).bits) << 16;
}

inline float power_of_two(float x) { return exp2f(x); }

inline void load_matrices_of(const void* row, unsigned (&x)[4], bool transposed) {
    const size_t address = reinterpret_cast<size_t>(row);
    on_cpu::bad_reads += address % 16 != 0;
    const unsigned own[] = {static_cast<unsigned>(address), static_cast<unsigned>(address >> 32)};
    const unsigned* warp = words_of_warp(own);
    const auto element = [&](int matrix, int i, int j) {
        const unsigned* lane = warp + (8 * matrix + i) * 8;
        const auto* start = reinterpret_cast<const unsigned short*>(size_t{lane[1]} << 32 | lane[0]);
        return static_cast<unsigned>(start[j]);
    };
    const int i = on_cpu::current->number % 32 / 4, j = 2 * (on_cpu::current->number % 4);
    for (int matrix = 0; matrix < 4; ++matrix) {
        x[matrix] = transposed ? element(matrix, j, i) | element(matrix, j + 1, i) << 16
                               : element(matrix, i, j) | element(matrix, i, j + 1) << 16;
    }
}
inline void load_matrices(const void* row, unsigned (&x)[4]) { load_matrices_of(row, x, false); }
inline void load_matrices_at(unsigned row, unsigned (&x)[4]) { load_matrices_of(dynamic_shared + row, x, false); }
inline void load_matrices_transposed_at(unsigned row, unsigned (&x)[4]) { load_matrices_of(dynamic_shared + row, x, true); }

inline unsigned transposed(unsigned pair) {
    const unsigned own[] = {pair};
    const unsigned* warp = words_of_warp(own);
    const int row = on_cpu::current->number % 32 / 4, column = 2 * (on_cpu::current->number % 4);
    const auto element = [&](int i, int j) { return warp[(4 * i + j / 2) * 8] >> 16 * (j % 2) & 0xFFFF; };
    return element(column, row) | element(column + 1, row) << 16;
}

template <class T> inline void multiply_add(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    const unsigned own[] = {a[0], a[1], a[2], a[3], b0, b1};
    const unsigned* warp = words_of_warp(own);
    const int lane = on_cpu::current->number % 32;
    for (int i = 0; i < 4; ++i) {
        const int row = lane / 4 + 8 * (i / 2), column = lane % 4 * 2 + i % 2;
        for (int k = 0; k < 16; ++k) {
            const unsigned left = warp[(row % 8 * 4 + k % 8 / 2) * 8 + row / 8 + 2 * (k / 8)];
            const unsigned right = warp[(column * 4 + k % 8 / 2) * 8 + 4 + k / 8];
            c[i] += half_of<T>(left, k % 2) * half_of<T>(right, k % 2);
        }
    }
}
