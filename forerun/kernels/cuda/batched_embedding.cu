// y[b] = table[tokens[index, b]], in f32, and what the next kernel normalizes it with: y * scale, divided for the
// tensor cores, and the sum of the squares of every eight elements, which a thread has.

#include "batched_halves.cuh"

static_assert(2 * Dims::C == Dims::D && 8 * Dims::G == Dims::D, "results are pairs of columns, and eights");

struct Locals {};

__device__ __forceinline__ void gather(const Arguments& a, Locals&) {
    const Types::tokens* tokens = a.tokens + a.index() * Dims::B;
    for_each_element<Launch, Dims::B * Dims::G>([&](int, int number) {
        const int vector = number / Dims::G, column = number % Dims::G * 8;
        const long long row = load_global(tokens + vector), place = static_cast<long long>(vector) * Dims::D + column;
        float x[8], scale[8];
        widen<Types::table>(load16(a.table + row * Dims::D + column), x);
        load_floats(a.scale + column, scale);
        store_floats(a.y + place, x);
        float squares = 0.0f;
#pragma unroll
        for (int i = 0; i < 8; i += 2) {
            store_divided(a.halves, place + i, x[i] * scale[i], x[i + 1] * scale[i + 1]);
            squares = fmaf(x[i], x[i], fmaf(x[i + 1], x[i + 1], squares));
        }
        a.squares[number] = squares;
    });
}
