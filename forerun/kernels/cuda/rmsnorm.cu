// y = x / sqrt(mean(x^2) + eps) * w. Every CTA reduces over the whole vector, and writes its share of it.

constexpr int ctas = ctas_of<Launch>;
constexpr int piece = piece_of_row<float>(Dims::D);  // elements that a thread takes at once
constexpr int pieces = Dims::D / piece;
constexpr int steps = ceil_div(pieces, Launch::threads);
constexpr int pieces_a_cta = ceil_div(pieces, ctas);

struct Locals {
    float scale[steps][piece];
};

__device__ __forceinline__ int piece_at(int step) { return step * Launch::threads + thread_of<Launch>(); }
__device__ __forceinline__ bool is_ours(int i) {
    return i < pieces && (ctas == 1 || i / pieces_a_cta == cta_of<Launch>());
}

__device__ __forceinline__ void load_scale(const Arguments& a, Locals& l) {
#pragma unroll
    for (int step = 0; step < steps; ++step) {
        const int i = piece_at(step);
        load_floats(a.w + i * piece, l.scale[step], is_ours(i));
    }
}

__device__ __forceinline__ void normalize(const Arguments& a, Locals& l) {
    float x[steps][piece];
    float squares = 0.0f;
#pragma unroll
    for (int step = 0; step < steps; ++step) {
        const int i = piece_at(step);
        load_floats(a.x + i * piece, x[step], i < pieces);
#pragma unroll
        for (int e = 0; e < piece; ++e) squares = fmaf(x[step][e], x[step][e], squares);
    }
    const float mean = cta_sum<Launch>(squares) / Dims::D;
    const float factor = 1.0f / sqrtf(mean + a.eps());
#pragma unroll
    for (int step = 0; step < steps; ++step) {
        const int i = piece_at(step);
        if (!is_ours(i)) continue;
        float y[piece];
#pragma unroll
        for (int e = 0; e < piece; ++e) y[e] = x[step][e] * factor * l.scale[step][e];
        store_floats(a.y + i * piece, y);
    }
}
