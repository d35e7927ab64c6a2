// The phases of norm_qkv_rope.cu and others. They include qkv_rows.cuh or qkv_heads.cuh before, which say what rows a
// CTA has.

#include "rotary.cuh"

using Weight = Types::w_q;
using Stored = Types::k_cache;
constexpr int columns = Dims::K;
constexpr int bytes_on_their_way = 4096;
constexpr int ahead_in_l2 = 0;

__device__ __forceinline__ int start_of_cta(int cta) { return first_row_of(cta); }
#include "norm_stream.cuh"

__device__ __forceinline__ const unsigned char* row_address(const Arguments& a, int row) {
    const Place place = place_of(row);
    return row_of(place.matrix == 0 ? a.w_q : place.matrix == 1 ? a.w_k : a.w_v, place.row);
}

constexpr int slots = ceil_div(most_pairs, Launch::threads);

// The position is read once, with the table: later it would cost the time of a load.
struct Locals {
    Normalized input;
    int position;
    Turn turns[slots];
    Pair bias[slots], scales[slots], pairs[slots];
};

// Calls f(slot, row) for the thread's pairs: row is the first of the two.
template <class F> __device__ __forceinline__ void for_each_pair(F f) {
#pragma unroll
    for (int slot = 0; slot < slots; ++slot) {
        const int i = 2 * (slot * Launch::threads + thread_of<Launch>());
        if (i < row_count()) f(slot, first_row() + i);
    }
}

__device__ __forceinline__ void load_weights(const Arguments& a, Locals&) { fill_rings(a); }

__device__ __forceinline__ void load_scale(const Arguments& a, Locals& l) { load_shares(a.scale, l.input.scale); }

__device__ __forceinline__ void load_table(const Arguments& a, Locals& l) {
    l.position = a.pos();
    for_each_pair([&](int slot, int row) {
        l.turns[slot] = turn_at(l.position, load_global(a.frequencies + row % Dims::HD / 2));
    });
}

__device__ __forceinline__ void normalize(const Arguments& a, Locals& l) {
    load_normalized(a.x, a.eps(), l.input);
}

__device__ __forceinline__ void dot(const Arguments& a, Locals& l) {
    multiply_rows(a, l.input);
    const float factor = factor_of(l.input);
    for_each_pair([&](int slot, int row) {
        const int i = row - first_row();
        l.pairs[slot] = {product(i) * factor, product(i + 1) * factor};
    });
}

__device__ __forceinline__ void rotate_append(const Arguments& a, Locals& l) {
    const long long start = static_cast<long long>(l.position) * Dims::NK;
    for_each_pair([&](int slot, int row) {
        const Place place = place_of(row);
        const Pair pair = place.matrix == 2 ? l.pairs[slot] : turned(l.pairs[slot], l.turns[slot]);
        if (place.matrix == 0) {
            store_pair(a.q_out + place.row, pair);
        } else {
            store_pair((place.matrix == 1 ? a.k_cache : a.v_cache) + start + place.row, pair);
        }
    });
}
