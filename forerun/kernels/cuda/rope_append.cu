// Rotates the heads of q and k, and appends k and v to the cache. A thread has the same pairs of elements in every head
// that its CTA takes, so it needs the table once.

#include "rotary.cuh"

constexpr int steps = ceil_div(Dims::P, Launch::threads);
static_assert(2 * Dims::P == Dims::HD, "one frequency a pair");

struct Locals {
    Turn turns[steps];
};

__device__ __forceinline__ int pair_at(int step) { return step * Launch::threads + thread_of<Launch>(); }

__device__ __forceinline__ void load_table(const Arguments& a, Locals& l) {
    const int position = a.pos();
#pragma unroll
    for (int step = 0; step < steps; ++step) {
        const int pair = pair_at(step);
        l.turns[step] = turn_at(position, pair < Dims::P ? load_global(a.frequencies + pair) : 0.0f);
    }
}

__device__ __forceinline__ int place_of(int head, int pair) { return head * Dims::HD + 2 * pair; }
__device__ __forceinline__ Pair pair_of(const float* heads, int head, int pair) {
    const float* x = heads + place_of(head, pair);
    return {load_global(x), load_global(x + 1)};
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
                store_pair(a.q_out + place_of(item, pair), turned(pair_of(a.q, item, pair), l.turns[step]));
            } else if (item < Dims::H + Dims::KV) {
                const Pair k = turned(pair_of(a.k, kv_head, pair), l.turns[step]);
                store_pair(a.k_cache + row + place_of(kv_head, pair), k);
            } else {
                store_pair(a.v_cache + row + place_of(kv_head, pair), pair_of(a.v, kv_head, pair));
            }
        }
    }
}
