// The rows of the three matrices of queries, keys and values, numbered through. A CTA takes consecutive pairs of them.
#pragma once

constexpr int all_pairs = Dims::NQ / 2 + Dims::NK;
constexpr int most_pairs = ceil_div(all_pairs, ctas_of<Launch>);
constexpr int most_rows = 2 * most_pairs;
static_assert(Dims::NQ == Dims::H * Dims::HD && Dims::NK == Dims::KV * Dims::HD, "rows are the elements of heads");
static_assert(2 * Dims::P == Dims::HD, "one frequency a pair");

// Where one of all the rows belongs.
struct Place {
    int matrix, row;
};
__device__ __forceinline__ Place place_of(int row) {
    if (row < Dims::NQ) return {0, row};
    if (row < Dims::NQ + Dims::NK) return {1, row - Dims::NQ};
    return {2, row - Dims::NQ - Dims::NK};
}

// The first row of a CTA.
__device__ __forceinline__ int first_row_of(int cta) { return 2 * start_of_share<all_pairs, ctas_of<Launch>>(cta); }
