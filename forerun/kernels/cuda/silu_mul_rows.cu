// y = silu(gate) * up, with silu(x) = x / (1 + exp(-x)). A CTA has a share of a row.

#include "short_rows.cuh"

constexpr int piece = piece_of_row<float>(Dims::D), pieces = Dims::D / piece;
constexpr int parts = greatest(1, ctas_of<Launch> / Dims::Q), rows_at_once = ceil_div(ctas_of<Launch>, parts);

struct Locals {};

__device__ __forceinline__ void activate(const Arguments& a, Locals&) {
    const int rows = least(load_global(a.rows), Dims::Q);
#pragma unroll 1
    for (int row = cta_of<Launch>() / parts; row < rows; row += rows_at_once) {
        const long long start = static_cast<long long>(row) * Dims::D;
#pragma unroll 1
        for (int i = cta_of<Launch>() % parts * Launch::threads + thread_of<Launch>(); i < pieces;
             i += parts * Launch::threads) {
            float gate[piece], up[piece];
            load_floats(a.gate + start + i * piece, gate);
            load_floats(a.up + start + i * piece, up);
#pragma unroll
            for (int e = 0; e < piece; ++e) up[e] *= gate[e] / (1.0f + expf(-gate[e]));
            store_short(a.y + start + i * piece, up);
        }
    }
}
