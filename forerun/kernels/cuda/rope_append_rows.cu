// Rotates the heads of q and k, and puts the rows of k and v where they belong in the paged cache. A CTA has a row.

#include "rotary.cuh"
#include "tensor_core.cuh"

static_assert(2 * Dims::P == Dims::HD, "one frequency a pair");
using Element = Types::k_cache;
static_assert(sizeof(Element) == 2, "keys and values are bf16 or f16");

constexpr int query_pairs = Dims::H * Dims::P, key_pairs = Dims::KV * Dims::P;

struct Locals {};

__device__ __forceinline__ Pair pair_at(const float* x) { return {load_global(x), load_global(x + 1)}; }
__device__ __forceinline__ void store_word(Element* to, Pair x) {
    *reinterpret_cast<unsigned*>(to) = packed<Element>(x.even, x.odd);
}

__device__ __forceinline__ void rotate_append(const Arguments& a, Locals&) {
    __shared__ Turn turns[Dims::P];
    const int rows = least(load_global(a.rows), Dims::Q);
#pragma unroll 1
    for (int row = cta_of<Launch>(); row < rows; row += ctas_of<Launch>) {
        const int position = load_global(a.positions + row);
        const long long number = row, place = load_global(a.places + row);
        for (int pair = thread_of<Launch>(); pair < Dims::P; pair += Launch::threads) {
            turns[pair] = turn_at(position, load_global(a.frequencies + pair));
        }
        __syncthreads();
#pragma unroll 2
        for (int i = thread_of<Launch>(); i < query_pairs; i += Launch::threads) {
            const long long at = number * (2 * query_pairs) + 2 * i;
            store_word(a.q_out + at, turned(pair_at(a.q + at), turns[i % Dims::P]));
        }
#pragma unroll 1
        for (int i = thread_of<Launch>(); i < key_pairs; i += Launch::threads) {
            const long long from = number * (2 * key_pairs) + 2 * i, to = place * (2 * key_pairs) + 2 * i;
            store_word(a.k_cache + to, turned(pair_at(a.k + from), turns[i % Dims::P]));
            store_word(a.v_cache + to, pair_at(a.v + from));
        }
        if constexpr (ctas_of<Launch> < Dims::Q) __syncthreads();  // the turns of the row have been read
    }
}
