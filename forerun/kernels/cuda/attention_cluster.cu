// Attention of grouped query heads over the rows up to its position, by a cluster of CTAs for each KV head.
//
// The CTAs of a cluster take equal spans of the rows; in a CTA, groups of lanes take every n-th one. A lane holds one piece
// of a row, for all query heads that share it, and keeps `ahead` rows on their way. A group rescales its sums when a
// greater score comes (arXiv:1805.02867); groups, warps and CTAs are merged in turn. At last each CTA has what all have
// found for its part of the elements, since they push it there.

#include "cluster.cuh"

using Stored = Types::k_cache;
static_assert(has_whole_warps<Launch>, "rows belong to groups of lanes");
constexpr int warps = warps_of<Launch>;

constexpr int piece = 16 / static_cast<int>(sizeof(Stored));  // elements
constexpr int lanes = Dims::HD / piece;                       // of a group
constexpr int groups = Launch::threads / lanes;
static_assert(lanes * piece == Dims::HD && lanes == power_of_two_from(lanes) && lanes <= 32, "a lane has 16 bytes of a row");

constexpr int heads = Dims::H / Dims::KV;
constexpr int outputs = heads * Dims::HD;
constexpr int outputs_a_cta = ceil_div(outputs, Launch::cluster);
static_assert(heads <= 8, "a lane has registers for 8 heads that share a row");
static_assert(Dims::HD >= Launch::cluster, "each element of a head tells one CTA of the scores");

// Rows that a group has on their way: long contexts are for large clusters.
constexpr int ahead = Launch::cluster > 8 ? 8 : 4;

// Less than any score, but finite: differences to it are numbers.
__device__ __forceinline__ float lowest() { return -1e30f; }

// The CTA's rows, of those up to the position.
struct Span {
    int first, stop, position;
};
__device__ __forceinline__ Span span_up_to(int position) {
    const int rows = position + 1, rank = rank_in_cluster<Launch>();
    return {rows * rank / Launch::cluster, rows * (rank + 1) / Launch::cluster, position};
}

// The position is read once, with the past rows: later it would cost the time of a load.
struct Locals {
    Span span;
    uint4 k[ahead], v[ahead];
};

__device__ __forceinline__ int lane() { return thread_of<Launch>() % lanes; }
__device__ __forceinline__ int group() { return thread_of<Launch>() / lanes; }
__device__ __forceinline__ int row_at(const Span& span, int number) { return span.first + number * groups + group(); }

__device__ __forceinline__ void load_row(const Arguments& a, int kv, int row, bool wanted, uint4& k, uint4& v) {
    const long long start = (static_cast<long long>(wanted ? row : 0) * Dims::KV + kv) * Dims::HD + lane() * piece;
    k = load16_once(a.k_cache + start, wanted);
    v = load16_once(a.v_cache + start, wanted);
}
// A row in the registers of place i: any but the present one, which is loaded by itself.
__device__ __forceinline__ void load_past_row(const Arguments& a, int kv, int number, Locals& l, int i) {
    const int row = row_at(l.span, number);
    load_row(a, kv, row, row < l.span.stop && row < l.span.position, l.k[i], l.v[i]);
}
__device__ __forceinline__ void load_first_rows(const Arguments& a, int kv, Locals& l) {
#pragma unroll
    for (int i = 0; i < ahead; ++i) load_past_row(a, kv, i, l, i);
}

// What a group has found so far, for each head. Scores are in powers of two.
struct Found {
    float greatest[heads], sum[heads], weighted[heads][piece];
};

__device__ __forceinline__ void attend_row(
    const uint4& k_piece, const uint4& v_piece, bool is_row, const float (&q)[heads][piece], Found& found) {
    float k[piece], v[piece];
    widen<Stored>(k_piece, k);
    widen<Stored>(v_piece, v);
#pragma unroll
    for (int h = 0; h < heads; ++h) {
        float score = 0.0f;
#pragma unroll
        for (int e = 0; e < piece; ++e) score = fmaf(q[h][e], k[e], score);
#pragma unroll
        for (int distance = lanes / 2; distance > 0; distance /= 2) score += __shfl_xor_sync(~0u, score, distance);
        score = is_row ? score : -infinity();
        const float greatest = fmaxf(found.greatest[h], score);
        const float kept = exp2f(found.greatest[h] - greatest), share = exp2f(score - greatest);
        found.greatest[h] = greatest;
        found.sum[h] = fmaf(found.sum[h], kept, share);
#pragma unroll
        for (int e = 0; e < piece; ++e) found.weighted[h][e] = fmaf(found.weighted[h][e], kept, share * v[e]);
    }
}

// All rows of the span. A row's registers take another one as soon as it is through.
__device__ __forceinline__ void attend_rows(
    const Arguments& a, int kv, const float (&q)[heads][piece], const uint4& k, const uint4& v, Locals& l,
    Found& found) {
    // As many rows for every thread, since the lanes of a warp exchange their sums.
    const int rows = ceil_div(l.span.stop - l.span.first, groups);
#pragma unroll 1
    for (int first = 0; first < rows; first += ahead) {
#pragma unroll
        for (int i = 0; i < ahead; ++i) {
            if (first + i >= rows) break;
            const int row = row_at(l.span, first + i);
            const bool present = row == l.span.position;
            attend_row(present ? k : l.k[i], present ? v : l.v[i], row < l.span.stop, q, found);
            if (first + i + ahead < rows) load_past_row(a, kv, first + i + ahead, l, i);
        }
    }
}

// Merges what the groups of a warp have found; every group has the whole afterwards.
__device__ __forceinline__ void merge_groups(Found& found) {
#pragma unroll
    for (int h = 0; h < heads; ++h) {
        float greatest = found.greatest[h];
#pragma unroll
        for (int distance = lanes; distance < 32; distance *= 2) {
            greatest = fmaxf(greatest, __shfl_xor_sync(~0u, greatest, distance));
        }
        const float share = exp2f(found.greatest[h] - greatest);
        found.greatest[h] = greatest;
        found.sum[h] *= share;
#pragma unroll
        for (int distance = lanes; distance < 32; distance *= 2) {
            found.sum[h] += __shfl_xor_sync(~0u, found.sum[h], distance);
        }
#pragma unroll
        for (int e = 0; e < piece; ++e) {
            found.weighted[h][e] *= share;
#pragma unroll
            for (int distance = lanes; distance < 32; distance *= 2) {
                found.weighted[h][e] += __shfl_xor_sync(~0u, found.weighted[h][e], distance);
            }
        }
    }
}

// What the warps have found, and what the CTAs of the cluster have found for the CTA's part of the outputs.
struct Exchange {
    float weighted[warps][heads][Dims::HD], greatest[warps][heads], sum[warps][heads];
    float weighted_by[Launch::cluster][outputs_a_cta], greatest_by[Launch::cluster][heads];
    float sum_by[Launch::cluster][heads];
    Arrival arrival;  // of the latter
};

// Lets the neighbours send what they find for one KV head.
__device__ __forceinline__ void open_exchange(bool first) {
    Exchange& shared = shared_of_cta<Exchange>();
    if (thread_of<Launch>() == 0) {
        const int own = least(outputs_a_cta, greatest(0, outputs - rank_in_cluster<Launch>() * outputs_a_cta));
        if (first) prepare(&shared.arrival);
        if (first) publish_prepared();
        expect(&shared.arrival, Launch::cluster * (own + 2 * heads) * static_cast<int>(sizeof(float)));
    }
    arrive_in_cluster();
}

__device__ __forceinline__ void publish(const Found& found, Exchange& shared) {
    const int warp = thread_of<Launch>() / 32;
    if (thread_of<Launch>() % 32 >= lanes) return;
#pragma unroll
    for (int h = 0; h < heads; ++h) {
        if (lane() == 0) {
            shared.greatest[warp][h] = found.greatest[h];
            shared.sum[warp][h] = found.sum[h];
        }
        store_floats(&shared.weighted[warp][h][lane() * piece], found.weighted[h]);
    }
}

// Several results for one element of one head, put together.
struct Merged {
    float greatest, sum, weighted;
};
template <int count, class Greatest, class Sum, class Weighted>
__device__ __forceinline__ Merged merged(Greatest greatest, Sum sum, Weighted weighted) {
    Merged all = {lowest(), 0.0f, 0.0f};
#pragma unroll
    for (int i = 0; i < count; ++i) all.greatest = fmaxf(all.greatest, greatest(i));
#pragma unroll
    for (int i = 0; i < count; ++i) {
        const float share = exp2f(greatest(i) - all.greatest);
        all.sum = fmaf(share, sum(i), all.sum);
        all.weighted = fmaf(share, weighted(i), all.weighted);
    }
    return all;
}

// Tells the CTA that has an output what this one has found for it, and every CTA the scores.
__device__ __forceinline__ void send_all(Exchange& shared) {
    const int rank = rank_in_cluster<Launch>();
    for (int i = thread_of<Launch>(); i < outputs; i += Launch::threads) {
        const int h = i / Dims::HD, e = i % Dims::HD;
        const Merged all = merged<warps>(
            [&](int warp) { return shared.greatest[warp][h]; }, [&](int warp) { return shared.sum[warp][h]; },
            [&](int warp) { return shared.weighted[warp][h][e]; });
        send(all.weighted, &shared.weighted_by[rank][i % outputs_a_cta], &shared.arrival, i / outputs_a_cta);
        if (e < Launch::cluster) {
            send(all.greatest, &shared.greatest_by[rank][h], &shared.arrival, e);
            send(all.sum, &shared.sum_by[rank][h], &shared.arrival, e);
        }
    }
}

__device__ __forceinline__ void write_outputs(const Arguments& a, int kv, const Exchange& shared) {
    const int first = rank_in_cluster<Launch>() * outputs_a_cta;
    for (int i = thread_of<Launch>(); i < outputs_a_cta && first + i < outputs; i += Launch::threads) {
        const int h = (first + i) / Dims::HD;
        const Merged all = merged<Launch::cluster>(
            [&](int rank) { return shared.greatest_by[rank][h]; }, [&](int rank) { return shared.sum_by[rank][h]; },
            [&](int rank) { return shared.weighted_by[rank][i]; });
        a.y[kv * outputs + first + i] = all.weighted / all.sum;
    }
}

// The first rows of the cluster's first KV head, as far as earlier steps have appended them.
__device__ __forceinline__ void load_past(const Arguments& a, Locals& l) {
    open_exchange(true);
    l.span = span_up_to(a.pos());
    load_first_rows(a, least(cluster_in_grid<Launch>(), Dims::KV - 1), l);
    await_cluster();
}

// What the CTA finds in its rows of a KV head, into shared memory.
__device__ __forceinline__ void attend_span(const Arguments& a, int kv, Locals& l, Exchange& shared) {
    // The present row first: it is what the kernel before has just written.
    const int number = l.span.position - l.span.first;
    uint4 k, v;
    load_row(a, kv, l.span.position, l.span.position < l.span.stop && number % groups == group(), k, v);

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
    attend_rows(a, kv, q, k, v, l, found);
    merge_groups(found);
    publish(found, shared);
    __syncthreads();
}

__device__ __forceinline__ void attend(const Arguments& a, Locals& l) {
    Exchange& shared = shared_of_cta<Exchange>();
    const int first = cluster_in_grid<Launch>();
    int parity = 0;
#pragma unroll 1
    for (int kv = first; kv < Dims::KV; kv += clusters_of<Launch>) {
        if (kv != first) {
            open_exchange(false);
            load_first_rows(a, kv, l);
            await_cluster();
        }
        attend_span(a, kv, l, shared);
        send_all(shared);
        await_arrival(&shared.arrival, parity);
        write_outputs(a, kv, shared);
        parity ^= 1;
    }
}
