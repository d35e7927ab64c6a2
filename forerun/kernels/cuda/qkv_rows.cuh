// Consecutive pairs of rows of the three matrices of queries, keys and values are a CTA's.
#pragma once

#include "qkv_places.cuh"

constexpr int all_pairs = Dims::NQ / 2 + Dims::NK;
constexpr int most_pairs = ceil_div(all_pairs, ctas_of<Launch>);
constexpr int most_rows = 2 * most_pairs;

// The first row of a CTA.
__device__ __forceinline__ int first_row_of(int cta) { return 2 * start_of_share<all_pairs, ctas_of<Launch>>(cta); }
