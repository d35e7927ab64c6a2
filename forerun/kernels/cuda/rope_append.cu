// Rotates the heads of q and k, and appends k and v to the cache. A thread has the same pairs of elements in every head
// that its CTA takes, so it needs the table once.

constexpr int steps = ceil_div(Dims::P, Launch::threads);
static_assert(2 * Dims::P == Dims::HD, "one frequency a pair");

struct Locals {
    float cosine[steps], sine[steps];
};

__device__ __forceinline__ int pair_at(int step) { return step * Launch::threads + thread_of<Launch>(); }

__device__ __forceinline__ void load_table(const Arguments& a, Locals& l) {
    const float position = static_cast<float>(a.pos());
#pragma unroll
    for (int step = 0; step < steps; ++step) {
        const int pair = pair_at(step);
        const float angle = pair < Dims::P ? position * load_global(a.frequencies + pair) : 0.0f;
        // In half turns, reduced in f64: exact for every angle, without the slow path of sincosf.
        const double turns = static_cast<double>(angle) * 0.15915494309189535;
        sincospif(2.0f * static_cast<float>(turns - rint(turns)), &l.sine[step], &l.cosine[step]);
    }
}

// The even and the odd element of a pair.
struct Pair {
    float even, odd;
};

__device__ __forceinline__ Pair pair_of(const float* heads, int head, int pair) {
    const float* x = heads + head * Dims::HD + 2 * pair;
    return {load_global(x), load_global(x + 1)};
}
__device__ __forceinline__ Pair rotated(Pair x, float cosine, float sine) {
    return {x.even * cosine - x.odd * sine, x.even * sine + x.odd * cosine};
}
template <class T> __device__ __forceinline__ void store_pair(T* heads, int head, int pair, Pair x) {
    T* y = heads + head * Dims::HD + 2 * pair;
    y[0] = narrowed<T>(x.even);
    y[1] = narrowed<T>(x.odd);
}

__device__ __forceinline__ void rotate_append(const Arguments& a, Locals& l) {
    const long long row = static_cast<long long>(a.pos()) * (Dims::KV * Dims::HD);
    // Heads of q, then of k, then of v.
#pragma unroll 1
    for (int item = cta_of<Launch>(); item < Dims::H + 2 * Dims::KV; item += ctas_of<Launch>) {
        const int kv_head = (item - Dims::H) % Dims::KV;
#pragma unroll
        for (int step = 0; step < steps; ++step) {
            const int pair = pair_at(step);
            if (pair >= Dims::P) continue;
            if (item < Dims::H) {
                store_pair(a.q_out, item, pair, rotated(pair_of(a.q, item, pair), l.cosine[step], l.sine[step]));
            } else if (item < Dims::H + Dims::KV) {
                const Pair k = rotated(pair_of(a.k, kv_head, pair), l.cosine[step], l.sine[step]);
                store_pair(a.k_cache + row, kv_head, pair, k);
            } else {
                store_pair(a.v_cache + row, kv_head, pair, pair_of(a.v, kv_head, pair));
            }
        }
    }
}
