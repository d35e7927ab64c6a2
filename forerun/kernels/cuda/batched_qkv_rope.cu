// Queries, keys and values of the normalized vectors; q and k are turned by position, k and v appended to the caches of
// their sequences. The rows of the three matrices are numbered through; a CTA takes consecutive pairs of them.

#include "batched_sequences.cuh"
#include "rotary.cuh"

using Weight = Types::w_q;
constexpr int row_columns = Dims::K, vectors = Dims::B;
constexpr int all_pairs = Dims::NQ / 2 + Dims::NK;
constexpr int most_pairs = ceil_div(all_pairs, ctas_of<Launch>);
constexpr int most_rows = 2 * most_pairs;
constexpr int bytes_on_their_way = 4096;
constexpr int ahead_in_l2 = 0;
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

__device__ __forceinline__ int first_of_share(int cta) { return 2 * start_of_share<all_pairs, ctas_of<Launch>>(cta); }
#include "batched_norm.cuh"

__device__ __forceinline__ const unsigned char* row_address(const Arguments& a, int row) {
    const Place place = place_of(row);
    return row_of(place.matrix == 0 ? a.w_q : place.matrix == 1 ? a.w_k : a.w_v, place.row);
}

constexpr int slots = ceil_div(most_pairs * vectors, Launch::threads);

struct Locals {
    Vectors x;
    int positions[slots];
    Turn turns[slots];
};

// Calls f(slot, vector, row) for the thread's pairs: row is the first of the two.
template <class F> __device__ __forceinline__ void for_each_pair(F f) {
    const int pairs = row_count() / 2;
#pragma unroll
    for (int slot = 0; slot < slots; ++slot) {
        const int number = slot * Launch::threads + thread_of<Launch>();
        if (number < pairs * vectors) f(slot, number / pairs, first_row() + 2 * (number % pairs));
    }
}

__device__ __forceinline__ void load_weights(const Arguments& a, Locals&) { fill_rings(a); }

__device__ __forceinline__ void load_scale(const Arguments& a, Locals&) { put_scale(a.scale); }

__device__ __forceinline__ void load_table(const Arguments& a, Locals& l) {
    for_each_pair([&](int slot, int vector, int row) {
        l.positions[slot] = position_of(a, vector / tokens) + vector % tokens;
        l.turns[slot] = turn_at(l.positions[slot], load_global(a.frequencies + row % Dims::HD / 2));
    });
}

__device__ __forceinline__ void normalize(const Arguments& a, Locals& l) { load_normalized(a, l.x); }

__device__ __forceinline__ void dot(const Arguments& a, Locals& l) { multiply_normalized(a, l.x); }

__device__ __forceinline__ void rotate_append(const Arguments& a, Locals& l) {
    for_each_pair([&](int slot, int vector, int row) {
        const Place place = place_of(row);
        const float factor = factor_of(a, vector);
        const int i = row - first_row();
        const Pair found = {product(vector, i) * factor, product(vector, i + 1) * factor};
        const Pair pair = place.matrix == 2 ? found : turned(found, l.turns[slot]);
        if (place.matrix == 0) {
            store_pair(a.q_out + static_cast<long long>(vector) * Dims::NQ + place.row, pair);
        } else {
            const int sequence = vector / tokens;
            auto* cache = place.matrix == 1 ? keys_of(a, sequence) : values_of(a, sequence);
            store_pair(cache + static_cast<long long>(l.positions[slot]) * Dims::NK + place.row, pair);
        }
    });
}
