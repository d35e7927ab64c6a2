// Attention of grouped query heads over rows of keys and values, by a cluster of CTAs for each KV head: what clusters of
// one query and of several have in common.
//
// The CTAs of a cluster take equal spans of the rows, one each or several; in a CTA, groups of lanes take every n-th one. A lane has one
// piece of a row, for all query heads that share it. A group rescales its sums when a greater score comes
// (arXiv:1805.02867); groups, warps and CTAs are merged in turn. At last each CTA has what all have found for its part
// of the elements, since they send it there.
//
// attention_cluster.cu and batched_attention.cu include it into their namespaces, with this defined:
//     Stored                   the type of the caches
//     spans_a_cta              how many spans a CTA takes, one after the other

#include "cluster.cuh"

static_assert(has_whole_warps<Launch>, "rows belong to groups of lanes");
constexpr int warps = warps_of<Launch>;

constexpr int piece = 16 / static_cast<int>(sizeof(Stored));  // elements
constexpr int lanes = Dims::HD / piece;                       // of a group
constexpr int groups = Launch::threads / lanes;
static_assert(lanes * piece == Dims::HD, "a lane has 16 bytes of a row");
static_assert(lanes == power_of_two_from(lanes) && lanes <= 32, "lanes that are a power of two have a row");

constexpr int spans = Launch::cluster * spans_a_cta;

constexpr int heads = Dims::H / Dims::KV;
constexpr int outputs = heads * Dims::HD;
constexpr int outputs_a_cta = ceil_div(outputs, Launch::cluster);
static_assert(heads <= 8, "a lane has registers for 8 heads that share a row");
static_assert(Launch::cluster > 1, "CTAs send each other what they find: launch clusters of two or more");
static_assert(Dims::HD >= Launch::cluster, "each element of a head tells one CTA of the scores");

// Rows are taken in tiles, of which some are on their way: more for long contexts, which are what large clusters are
// for, and as many as the registers hold beside the heads.
constexpr int rows = heads <= 4 ? 4 : 2;  // of a tile, a group
constexpr int ahead = heads <= 4 && Launch::cluster <= 8 ? 1 : 2;

// Less than any score, but finite: differences to it are numbers.
__device__ __forceinline__ float lowest() { return -1e30f; }

// One of the CTA's spans of the rows up to the position.
struct Span {
    int first, stop, position;
};
__device__ __forceinline__ int number_of_span(int part) { return rank_in_cluster<Launch>() * spans_a_cta + part; }
__device__ __forceinline__ Span span_up_to(int position, int part = 0) {
    const int rows = position + 1, number = number_of_span(part);
    return {rows * number / spans, rows * (number + 1) / spans, position};
}

struct Tile {
    uint4 k[rows], v[rows];
};

__device__ __forceinline__ int lane() { return thread_of<Launch>() % lanes; }
__device__ __forceinline__ int group() { return thread_of<Launch>() / lanes; }
__device__ __forceinline__ int row_at(const Span& span, int tile, int j) {
    return span.first + (tile * rows + j) * groups + group();
}

// What a group has found so far, for each head. Scores are in powers of two.
struct Found {
    float greatest[heads], sum[heads], weighted[heads][piece];
};

__device__ __forceinline__ float group_sum(float x) {
#pragma unroll
    for (int distance = lanes / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(~0u, x, distance);
    return x;
}

__device__ __forceinline__ void attend_tile(
    const Tile& tile, const float (&q)[heads][piece], const Span& span, int number, Found& found) {
    float scores[rows][heads] = {};
#pragma unroll
    for (int j = 0; j < rows; ++j) {
        float k[piece];
        widen<Stored>(tile.k[j], k);
#pragma unroll
        for (int h = 0; h < heads; ++h) {
#pragma unroll
            for (int e = 0; e < piece; ++e) scores[j][h] = fmaf(q[h][e], k[e], scores[j][h]);
            scores[j][h] = group_sum(scores[j][h]);
            if (row_at(span, number, j) >= span.stop) scores[j][h] = -infinity();
        }
    }
#pragma unroll
    for (int h = 0; h < heads; ++h) {
        float greatest = found.greatest[h];
#pragma unroll
        for (int j = 0; j < rows; ++j) greatest = fmaxf(greatest, scores[j][h]);
        const float kept = exp2f(found.greatest[h] - greatest);
        found.greatest[h] = greatest;
        found.sum[h] *= kept;
#pragma unroll
        for (int e = 0; e < piece; ++e) found.weighted[h][e] *= kept;
#pragma unroll
        for (int j = 0; j < rows; ++j) {
            scores[j][h] = exp2f(scores[j][h] - greatest);
            found.sum[h] += scores[j][h];
        }
    }
#pragma unroll
    for (int j = 0; j < rows; ++j) {
        float v[piece];
        widen<Stored>(tile.v[j], v);
#pragma unroll
        for (int h = 0; h < heads; ++h) {
#pragma unroll
            for (int e = 0; e < piece; ++e) found.weighted[h][e] = fmaf(scores[j][h], v[e], found.weighted[h][e]);
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

// What the warps have found, and what is found in all spans for the CTA's part of the outputs.
struct Exchange {
    float weighted[warps][heads][Dims::HD], greatest[warps][heads], sum[warps][heads];
    float weighted_by[spans][outputs_a_cta], greatest_by[spans][heads];
    float sum_by[spans][heads];
    Arrival arrival;  // of the latter
};

// Lets the neighbours send what they find for one KV head.
__device__ __forceinline__ void open_exchange(bool first) {
    Exchange& shared = shared_of_cta<Exchange>();
    if (thread_of<Launch>() == 0) {
        const int own = least(outputs_a_cta, greatest(0, outputs - rank_in_cluster<Launch>() * outputs_a_cta));
        if (first) prepare(&shared.arrival);
        if (first) publish_prepared();
        expect(&shared.arrival, spans * (own + 2 * heads) * static_cast<int>(sizeof(float)));
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

// Tells the CTA that has an output what this one has found for it in a span, and every CTA the scores.
__device__ __forceinline__ void send_all(Exchange& shared, int part = 0) {
    const int number = number_of_span(part);
    for (int i = thread_of<Launch>(); i < outputs; i += Launch::threads) {
        const int h = i / Dims::HD, e = i % Dims::HD;
        const Merged all = merged<warps>(
            [&](int warp) { return shared.greatest[warp][h]; }, [&](int warp) { return shared.sum[warp][h]; },
            [&](int warp) { return shared.weighted[warp][h][e]; });
        send(all.weighted, &shared.weighted_by[number][i % outputs_a_cta], &shared.arrival, i / outputs_a_cta);
        if (e < Launch::cluster) {
            send(all.greatest, &shared.greatest_by[number][h], &shared.arrival, e);
            send(all.sum, &shared.sum_by[number][h], &shared.arrival, e);
        }
    }
}

// Calls write(place, output) for the CTA's outputs of a KV head.
template <class F> __device__ __forceinline__ void write_outputs(int kv, const Exchange& shared, F write) {
    const int first = rank_in_cluster<Launch>() * outputs_a_cta;
    for (int i = thread_of<Launch>(); i < outputs_a_cta && first + i < outputs; i += Launch::threads) {
        const int h = (first + i) / Dims::HD;
        const Merged all = merged<spans>(
            [&](int span) { return shared.greatest_by[span][h]; }, [&](int span) { return shared.sum_by[span][h]; },
            [&](int span) { return shared.weighted_by[span][i]; });
        write(kv * outputs + first + i, all.weighted / all.sum);
    }
}

