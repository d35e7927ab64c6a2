// y = silu(gate) * up, with silu(x) = x / (1 + exp(-x)). CTAs take parts of rows by turns.

#include "short_rows.cuh"

constexpr int piece = piece_of_row<float>(Dims::D), pieces = Dims::D / piece, parts = ceil_div(pieces, Launch::threads);

struct Locals {};

__device__ __forceinline__ void activate(const Arguments& a, Locals&) {
    const long long items = static_cast<long long>(least(load_global(a.rows), Dims::Q)) * parts;
#pragma unroll 1
    for (long long item = cta_of<Launch>(); item < items; item += ctas_of<Launch>) {
        const int i = static_cast<int>(item % parts) * Launch::threads + thread_of<Launch>();
        const long long start = item / parts * Dims::D + i * piece;
        if (i >= pieces) continue;
        float gate[piece], up[piece];
        load_floats(a.gate + start, gate);
        load_floats(a.up + start, up);
#pragma unroll
        for (int e = 0; e < piece; ++e) up[e] *= gate[e] / (1.0f + expf(-gate[e]));
        store_short(a.y + start, up);
    }
}
