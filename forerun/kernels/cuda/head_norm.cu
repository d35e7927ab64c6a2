// y = x / sqrt(mean(x^2) + eps) * w for each head, which a warp takes.

static_assert(has_whole_warps<Launch>, "heads belong to warps");
constexpr int warps = warps_of<Launch>;
constexpr int steps = ceil_div(Dims::HD, 32);

struct Locals {};

__device__ __forceinline__ void normalize(const Arguments& a, Locals&) {
    const int lane = thread_of<Launch>() % 32, warp = thread_of<Launch>() / 32;
#pragma unroll 1
    for (int head = cta_of<Launch>() * warps + warp; head < Dims::H; head += ctas_of<Launch> * warps) {
        float x[steps];
        float squares = 0.0f;
#pragma unroll
        for (int step = 0; step < steps; ++step) {
            const int e = step * 32 + lane;
            x[step] = e < Dims::HD ? load_global(a.x + head * Dims::HD + e) : 0.0f;
            squares = fmaf(x[step], x[step], squares);
        }
        const float factor = 1.0f / sqrtf(warp_sum(squares) / Dims::HD + a.eps());
#pragma unroll
        for (int step = 0; step < steps; ++step) {
            const int e = step * 32 + lane;
            if (e < Dims::HD) a.y[head * Dims::HD + e] = x[step] * factor * load_global(a.w + e);
        }
    }
}
