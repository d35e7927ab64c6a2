// Consecutive heads of queries, keys and values are a cluster's, and consecutive pairs of their rows a CTA's.
#pragma once

#include "cluster.cuh"
#include "qkv_places.cuh"

static_assert(Launch::cluster > 1, "CTAs that share heads send each other sums: launch clusters of two or more");

constexpr int all_heads = Dims::H + 2 * Dims::KV;
constexpr int most_heads = ceil_div(all_heads, clusters_of<Launch>);
constexpr int most_pairs = ceil_div(most_heads * Dims::P, Launch::cluster);
constexpr int most_rows = 2 * most_pairs;

__device__ __forceinline__ int first_head_of(int cluster) { return start_of_share<all_heads, clusters_of<Launch>>(cluster); }

// The first row of a CTA.
__device__ __forceinline__ int first_row_of(int cta) {
    const int cluster = cta / Launch::cluster, head = first_head_of(cluster);
    const int pairs = (first_head_of(cluster + 1) - head) * Dims::P;
    return head * Dims::HD + 2 * (pairs * (cta % Launch::cluster) / Launch::cluster);
}
