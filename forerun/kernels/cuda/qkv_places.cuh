// The rows of the three matrices of queries, keys and values, numbered through.
#pragma once

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
