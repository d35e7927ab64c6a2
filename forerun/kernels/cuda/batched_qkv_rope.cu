// Queries, keys and values of the normalized vectors; q and k are turned by position, k and v appended to the caches of
// their sequences. The rows of the three matrices are numbered through; a CTA takes consecutive pairs of them.

#include "batched_sequences.cuh"
#include "rotary.cuh"
#include "qkv_rows.cuh"

using Weight = Types::w_q;
constexpr int row_columns = Dims::K, vectors = Dims::B;
constexpr int bytes_on_their_way = 4096;
constexpr int ahead_in_l2 = 0;

__device__ __forceinline__ int first_of_share(int cta) { return first_row_of(cta); }
#include "batched_norm.cuh"

__device__ __forceinline__ const unsigned char* row_address(const Arguments& a, int row) {
    const Place place = place_of(row);
    return row_of(place.matrix == 0 ? a.w_q : place.matrix == 1 ? a.w_k : a.w_v, place.row);
}

constexpr int slots = ceil_div(most_pairs * vectors, Launch::threads);

struct Locals {
    Normalized x;
    int positions[slots];
    Turn turns[slots];
};

// Calls f(slot, vector, row) for the thread's pairs: row is the first of the two.
template <class F> __device__ __forceinline__ void for_each_pair(F f) {
#pragma unroll
    for (int slot = 0; slot < slots; ++slot) {
        const int number = slot * Launch::threads + thread_of<Launch>();
        const int vector = number / most_pairs, row = number % most_pairs * 2;
        if (vector < vectors && row < row_count()) f(slot, vector, first_row() + row);
    }
}

__device__ __forceinline__ void load_weights(const Arguments& a, Locals&) { fill_rings(a); }

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
        const float factor = factor_of(vector);
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
