// y = x / sqrt(mean(x^2) + eps) * w, a CTA a row.

#include "short_rows.cuh"

constexpr int piece = piece_of_row<float>(Dims::D);  // elements that a thread takes at once
constexpr int pieces = Dims::D / piece;
constexpr int steps = ceil_div(pieces, Launch::threads);

struct Locals {};

__device__ __forceinline__ void normalize(const Arguments& a, Locals&) {
    const int rows = least(load_global(a.rows), Dims::Q);
#pragma unroll 1
    for (int row = cta_of<Launch>(); row < rows; row += ctas_of<Launch>) {
        const long long start = static_cast<long long>(row) * Dims::D;
        float x[steps][piece];
        float squares = 0.0f;
#pragma unroll
        for (int step = 0; step < steps; ++step) {
            const int i = step * Launch::threads + thread_of<Launch>();
            load_floats(a.x + start + i * piece, x[step], i < pieces);
#pragma unroll
            for (int e = 0; e < piece; ++e) squares = fmaf(x[step][e], x[step][e], squares);
        }
        const float mean = cta_sum<Launch>(squares) / Dims::D;
        const float factor = 1.0f / sqrtf(mean + a.eps());
#pragma unroll
        for (int step = 0; step < steps; ++step) {
            const int i = step * Launch::threads + thread_of<Launch>();
            if (i >= pieces) continue;
            float w[piece];
            load_floats(a.w + i * piece, w);
#pragma unroll
            for (int e = 0; e < piece; ++e) w[e] = x[step][e] * factor * w[e];
            store_short(a.y + start + i * piece, w);
        }
        if constexpr (ctas_of<Launch> < Dims::Q) __syncthreads();  // the sums of the row have been read
    }
}
