// Attention of grouped query heads over the rows up to its position, by a cluster of CTAs for each KV head.

using Stored = Types::k_cache;
constexpr int spans_a_cta = 1;
#include "attention_cluster.cuh"

// The position is read once, with the past rows: later it would cost the time of a load.
struct Locals {
    Span span;
    Tile past[ahead];
};

__device__ __forceinline__ void load_row(const Arguments& a, int kv, int row, bool wanted, uint4& k, uint4& v) {
    const long long start = (static_cast<long long>(wanted ? row : 0) * Dims::KV + kv) * Dims::HD + lane() * piece;
    k = load16_once(a.k_cache + start, wanted);
    v = load16_once(a.v_cache + start, wanted);
}
// All rows of a tile but the present one, which is loaded by itself.
__device__ __forceinline__ void load_tile(const Arguments& a, int kv, const Span& span, int number, Tile& tile) {
#pragma unroll
    for (int j = 0; j < rows; ++j) {
        const int row = row_at(span, number, j);
        load_row(a, kv, row, row < span.stop && row < span.position, tile.k[j], tile.v[j]);
    }
}
__device__ __forceinline__ void load_first_tiles(const Arguments& a, int kv, Locals& l) {
#pragma unroll
    for (int i = 0; i < ahead; ++i) load_tile(a, kv, l.span, i, l.past[i]);
}
// The present row, for the group that it falls to.
__device__ __forceinline__ void load_present(const Arguments& a, int kv, const Span& span, uint4& k, uint4& v) {
    const bool ours = span.position < span.stop && (span.position - span.first) % groups == group();
    load_row(a, kv, span.position, ours, k, v);
}
__device__ __forceinline__ void put_present(const Span& span, int number, const uint4& k, const uint4& v, Tile& tile) {
#pragma unroll
    for (int j = 0; j < rows; ++j) {
        const bool present = row_at(span, number, j) == span.position;
        tile.k[j] = present ? k : tile.k[j];
        tile.v[j] = present ? v : tile.v[j];
    }
}

// All rows of the span. The registers of a tile take another one as soon as it is through.
__device__ __forceinline__ void attend_tiles(
    const Arguments& a, int kv, const float (&q)[heads][piece], const uint4& k, const uint4& v, Locals& l,
    Found& found) {
    // As many tiles for every thread, since the lanes of a warp exchange their sums.
    const int tiles = ceil_div(l.span.stop - l.span.first, rows * groups);
#pragma unroll 1
    for (int first = 0; first < tiles; first += ahead) {
#pragma unroll
        for (int i = 0; i < ahead; ++i) {
            const int number = first + i;
            if (number >= tiles) break;
            put_present(l.span, number, k, v, l.past[i]);
            attend_tile(l.past[i], q, l.span, number, found);
            if (number + ahead < tiles) load_tile(a, kv, l.span, number + ahead, l.past[i]);
        }
    }
}

// The first tiles of the cluster's first KV head, as far as earlier steps have appended them.
__device__ __forceinline__ void load_past(const Arguments& a, Locals& l) {
    open_exchange(true);
    l.span = span_up_to(a.pos());
    load_first_tiles(a, least(cluster_in_grid<Launch>(), Dims::KV - 1), l);
    await_cluster();
}

// What the CTA finds in its rows of a KV head, into shared memory.
__device__ __forceinline__ void attend_span(const Arguments& a, int kv, Locals& l, Exchange& shared) {
    // The present row first: it is what the kernel before has just written.
    uint4 k, v;
    load_present(a, kv, l.span, k, v);

    float q[heads][piece];
    Found found = {};
    const float scale = 1.4426950408889634f / sqrtf(static_cast<float>(Dims::HD));
#pragma unroll
    for (int h = 0; h < heads; ++h) {
        load_floats(a.q + (kv * heads + h) * Dims::HD + lane() * piece, q[h]);
        found.greatest[h] = lowest();
    }
#pragma unroll
    for (int h = 0; h < heads; ++h) {
#pragma unroll
        for (int e = 0; e < piece; ++e) q[h][e] *= scale;
    }
    attend_tiles(a, kv, q, k, v, l, found);
    merge_groups(found);
    publish(found, shared);
    __syncthreads();
}

// Clusters take turns if there are fewer of them than KV heads.
constexpr int turns = ceil_div(Dims::KV, clusters_of<Launch>);

__device__ __forceinline__ void attend(const Arguments& a, Locals& l) {
    Exchange& shared = shared_of_cta<Exchange>();
#pragma unroll 1
    for (int turn = 0; turn < turns; ++turn) {
        const int kv = turn * clusters_of<Launch> + cluster_in_grid<Launch>();
        if (kv >= Dims::KV) break;
        if (turn > 0) {
            open_exchange(false);
            load_first_tiles(a, kv, l);
            await_cluster();
        }
        attend_span(a, kv, l, shared);
        send_all(shared);
        await_arrival(&shared.arrival, turn % 2);
        write_outputs(kv, shared, [&](int place, float output) { a.y[place] = output; });
    }
}
