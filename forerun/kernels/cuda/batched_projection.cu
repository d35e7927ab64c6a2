// y = residual + w x for each vector. The CTAs of a cluster share the columns of the same rows: each adds up what all of
// them have found for its part of the rows, which they send it.

#include "cluster.cuh"

template <class L> __device__ constexpr int cluster_of(decltype(L::cluster)*) { return L::cluster; }
template <class L> __device__ constexpr int cluster_of(...) { return 1; }
constexpr int ctas_a_share = cluster_of<Launch>(nullptr);
constexpr int shares = ctas_of<Launch> / ctas_a_share;

using Weight = Types::w;
constexpr int row_columns = Dims::K, vectors = Dims::B;
constexpr int columns = Dims::K / ctas_a_share;
constexpr bool normalized = false;
constexpr int most_rows = ceil_div(Dims::N, shares);
constexpr int bytes_on_their_way = 4096;
constexpr int ahead_in_l2 = 0;
static_assert(columns * ctas_a_share == Dims::K, "the CTAs of a cluster have as many columns each");

__device__ __forceinline__ int rank() { return cta_of<Launch>() % ctas_a_share; }
__device__ __forceinline__ int first_column() { return rank() * columns; }
__device__ __forceinline__ int first_of_share(int share) { return start_of_share<Dims::N, shares>(share); }
#include "batched_stream.cuh"

__device__ __forceinline__ const unsigned char* row_address(const Arguments& a, int row) { return row_of(a.w, row); }

// The CTA's own rows, which it writes, are those of the share from the first to before that of the next rank.
__device__ __forceinline__ int first_own(int rank) { return row_count() * rank / ctas_a_share; }
__device__ __forceinline__ int own_count() { return first_own(rank() + 1) - first_own(rank()); }
constexpr int most_own = ceil_div(most_rows, ctas_a_share);
constexpr int slots = ceil_div(most_own * vectors, Launch::threads);

struct Locals {
    Vectors x;
    float residual[slots];
};

// What the CTAs of the cluster have found for the own rows.
struct Exchange {
    float found[ctas_a_share][vectors][most_own];
    Arrival arrival;
};

// Calls f(slot, vector, i) for the thread's products with the own rows, of which i is one.
template <class F> __device__ __forceinline__ void for_each_own(F f) {
#pragma unroll
    for (int slot = 0; slot < slots; ++slot) {
        const int number = slot * Launch::threads + thread_of<Launch>();
        if (number < own_count() * vectors) f(slot, number / own_count(), number % own_count());
    }
}
__device__ __forceinline__ long long place_of(int vector, int i) {
    return static_cast<long long>(vector) * Dims::N + first_row() + first_own(rank()) + i;
}

__device__ __forceinline__ void load_weights(const Arguments& a, Locals&) {
    if constexpr (ctas_a_share > 1) {
        Exchange& shared = shared_of_cta<Exchange>();
        if (thread_of<Launch>() == 0) {
            prepare(&shared.arrival);
            publish_prepared();
            expect(&shared.arrival, ctas_a_share * own_count() * vectors * static_cast<int>(sizeof(float)));
        }
        arrive_in_cluster();
    }
    fill_rings(a);
}

__device__ __forceinline__ void load_input(const Arguments& a, Locals& l) { load_vectors(a.x, 0, l.x); }

__device__ __forceinline__ void load_residual(const Arguments& a, Locals& l) {
    for_each_own([&](int slot, int vector, int i) {
        l.residual[slot] = load_global(a.residual + place_of(vector, i));
    });
}

__device__ __forceinline__ void dot(const Arguments& a, Locals& l) {
    multiply_rows(a, a.x, l.x);
    if constexpr (ctas_a_share > 1) {
        Exchange& shared = shared_of_cta<Exchange>();
        await_cluster();
#pragma unroll 1
        for (int i = thread_of<Launch>(); i < row_count() * vectors; i += Launch::threads) {
            const int vector = i / row_count(), row = i % row_count();
            int owner = 0;
#pragma unroll
            for (int other = 1; other < ctas_a_share; ++other) owner += row >= first_own(other);
            float* to = &shared.found[rank()][vector][row - first_own(owner)];
            send(product(vector, row), to, &shared.arrival, owner);
        }
        await_arrival(&shared.arrival, 0);
    }
}

__device__ __forceinline__ void add(const Arguments& a, Locals& l) {
    for_each_own([&](int slot, int vector, int i) {
        float sum;
        if constexpr (ctas_a_share > 1) {
            const Exchange& shared = shared_of_cta<Exchange>();
            sum = shared.found[0][vector][i];
#pragma unroll
            for (int other = 1; other < ctas_a_share; ++other) sum += shared.found[other][vector][i];
        } else {
            sum = product(vector, i);
        }
        a.y[place_of(vector, i)] = l.residual[slot] + sum;
    });
}
