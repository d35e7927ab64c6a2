// y = residual + w x for each vector, and what the next kernel normalizes it with: y * scale, divided for the tensor
// cores, and the sum of the squares of every eight elements. The CTAs of a cluster share the columns of the same rows:
// each adds up what all of them have found for its part of the rows, which they send it.

#include "cluster.cuh"

template <class L> __device__ constexpr int cluster_of(decltype(L::cluster)*) { return L::cluster; }
template <class L> __device__ constexpr int cluster_of(...) { return 1; }
constexpr int ctas_a_share = cluster_of<Launch>(nullptr);
constexpr int shares = ctas_of<Launch> / ctas_a_share;

using Weight = Types::w;
constexpr int row_columns = Dims::K, vectors = Dims::B;
constexpr int columns = Dims::K / ctas_a_share;
constexpr int eights = Dims::N / 8;  // of rows, which a CTA has together
constexpr int most_rows = 8 * ceil_div(eights, shares);
constexpr int bytes_on_their_way = 4096;
constexpr int ahead_in_l2 = 0;
static_assert(columns * ctas_a_share == Dims::K, "the CTAs of a cluster have as many columns each");
static_assert(2 * Dims::C == Dims::K, "vectors are pairs of columns");
static_assert(8 * Dims::G == Dims::N && 2 * Dims::R == Dims::N, "results are pairs of rows, and sums of eight squares");

__device__ __forceinline__ int rank() { return cta_of<Launch>() % ctas_a_share; }
__device__ __forceinline__ int first_column() { return rank() * columns; }
__device__ __forceinline__ int first_of_share(int share) { return 8 * start_of_share<eights, shares>(share); }
#include "batched_stream.cuh"

__device__ __forceinline__ const unsigned char* row_address(const Arguments& a, int row) { return row_of(a.w, row); }

// The CTA's own rows, which it writes, are those of the share from the first to before that of the next rank.
__device__ __forceinline__ int first_own(int rank) { return row_count() / 8 * rank / ctas_a_share * 8; }
__device__ __forceinline__ int own_count() { return first_own(rank() + 1) - first_own(rank()); }
constexpr int most_own = 8 * ceil_div(most_rows / 8, ctas_a_share);
constexpr int slots = ceil_div(most_own / 2 * vectors, Launch::threads);

// Two neighbours.
struct Two {
    float first, second;
};
__device__ __forceinline__ Two load_two(const float* p) {
    const unsigned long long both = load_global(reinterpret_cast<const unsigned long long*>(p));
    return {__uint_as_float(static_cast<unsigned>(both)), __uint_as_float(static_cast<unsigned>(both >> 32))};
}

struct Locals {
    Vectors x;
    Two residual[slots], scale[slots];
};

// What the CTAs of the cluster have found for the own rows.
struct Exchange {
    float found[ctas_a_share][vectors][most_own];
    Arrival arrival;
};

// Calls f(slot, vector, i) for the thread's products with the own rows, of which i and i + 1 are two.
template <class F> __device__ __forceinline__ void for_each_two(F f) {
    constexpr int twos = most_own / 2;
#pragma unroll
    for (int slot = 0; slot < slots; ++slot) {
        const int number = slot * Launch::threads + thread_of<Launch>(), i = number % twos * 2;
        if (number < twos * vectors && i < own_count()) f(slot, number / twos, i);
    }
}
__device__ __forceinline__ int row_of_own(int i) { return first_row() + first_own(rank()) + i; }
__device__ __forceinline__ long long place_of(int vector, int i) {
    return static_cast<long long>(vector) * Dims::N + row_of_own(i);
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

__device__ __forceinline__ void load_scale(const Arguments& a, Locals& l) {
    for_each_two([&](int slot, int, int i) { l.scale[slot] = load_two(a.scale + row_of_own(i)); });
}

__device__ __forceinline__ void load_residual(const Arguments& a, Locals& l) {
    for_each_two([&](int slot, int vector, int i) { l.residual[slot] = load_two(a.residual + place_of(vector, i)); });
}

__device__ __forceinline__ void dot(const Arguments& a, Locals& l) {
    multiply_rows(a, a.x, l.x, [] {});
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

// What the cluster has found for an own row.
__device__ __forceinline__ float found_of(int vector, int i) {
    if constexpr (ctas_a_share == 1) {
        return product(vector, i);
    } else {
        const Exchange& shared = shared_of_cta<Exchange>();
        float sum = shared.found[0][vector][i];
#pragma unroll
        for (int other = 1; other < ctas_a_share; ++other) sum += shared.found[other][vector][i];
        return sum;
    }
}

__device__ __forceinline__ void add(const Arguments& a, Locals& l) {
    float squares[slots] = {};
    for_each_two([&](int slot, int vector, int i) {
        const Two base = l.residual[slot], scale = l.scale[slot];
        const float first = base.first + found_of(vector, i), second = base.second + found_of(vector, i + 1);
        *reinterpret_cast<float2*>(a.y + place_of(vector, i)) = {first, second};
        store_divided(a.halves, place_of(vector, i), first * scale.first, second * scale.second);
        squares[slot] = fmaf(first, first, second * second);
    });
    // Four neighbouring threads have eight rows.
#pragma unroll
    for (int slot = 0; slot < slots; ++slot) {
#pragma unroll
        for (int distance = 1; distance < 4; distance *= 2) {
            squares[slot] += __shfl_xor_sync(~0u, squares[slot], distance);
        }
    }
    for_each_two([&](int slot, int vector, int i) {
        if (i % 8 == 0) a.squares[vector * Dims::G + row_of_own(i) / 8] = squares[slot];
    });
}
