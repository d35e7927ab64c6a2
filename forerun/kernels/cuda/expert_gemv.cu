// y[s] = w[chosen[s]] x[s % R]. A warp has a row of a slot, and several pieces a lane on their way at once, so that it
// is as fast through the link, from pinned memory, as from the GPU's own.

static_assert(has_whole_warps<Launch>, "rows belong to warps");
constexpr int piece = piece_of_row<Types::w>(Dims::M), pieces = Dims::M / piece, ahead = 8;

struct Locals {};

__device__ __forceinline__ float product(const Types::w* row, const float* x, int lane) {
    float sum = 0.0f;
#pragma unroll 1
    for (int first = lane; first < pieces; first += 32 * ahead) {
        uint4 w[ahead];
#pragma unroll
        for (int i = 0; i < ahead; ++i) {
            const bool inside = first + 32 * i < pieces;
            w[i] = load_piece_once<Types::w, piece>(row + (inside ? first + 32 * i : 0) * piece, inside);
        }
#pragma unroll
        for (int i = 0; i < ahead; ++i) {
            const bool inside = first + 32 * i < pieces;
            float elements[piece], factors[piece];
            widen<Types::w>(w[i], elements);
            load_floats(x + (inside ? first + 32 * i : 0) * piece, factors, inside);
#pragma unroll
            for (int j = 0; j < piece; ++j) sum = fmaf(elements[j], factors[j], sum);
        }
    }
    return warp_sum(sum);
}

__device__ __forceinline__ void multiply(const Arguments& a, Locals&) {
    constexpr int warps = warps_of<Launch>;
    const int lane = thread_of<Launch>() % 32;
    for (int n = cta_of<Launch>() * warps + thread_of<Launch>() / 32; n < Dims::S * Dims::N; n += ctas_of<Launch> * warps) {
        const int slot = n / Dims::N, row = n % Dims::N;
        const int expert = greatest(0, least(load_global(a.chosen + slot), Dims::E - 1));
        const Types::w* w = a.w + (static_cast<long long>(expert) * Dims::N + row) * Dims::M;
        const float sum = product(w, a.x + slot % Dims::R * Dims::M, lane);
        if (lane == 0) a.y[n] = sum;
    }
}
