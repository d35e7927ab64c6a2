// y = residual + w x.

using Weight = Types::w;
constexpr int columns = Dims::K;
constexpr bool vector_is_shared = false;
constexpr int most_rows = ceil_div(Dims::N, ctas_of<Launch>);
constexpr int bytes_on_their_way = 4096;
constexpr int ahead_in_l2 = 0;

__device__ __forceinline__ int start_of_cta(int cta) { return start_of_share<Dims::N, ctas_of<Launch>>(cta); }
#include "row_stream.cuh"

__device__ __forceinline__ const unsigned char* row_address(const Arguments& a, int row) {
    return row_of(a.w, row);
}

constexpr int slots = ceil_div(most_rows, Launch::threads);

struct Locals {
    Vector x;
    float residual[slots];
};

// Thread t has rows t, t + threads, ... of the CTA.
__device__ __forceinline__ int row_in_cta(int slot) { return slot * Launch::threads + thread_of<Launch>(); }

__device__ __forceinline__ void load_weights(const Arguments& a, Locals&) { fill_rings(a); }

__device__ __forceinline__ void load_input(const Arguments& a, Locals& l) { load_vector(a.x, l.x); }

__device__ __forceinline__ void load_residual(const Arguments& a, Locals& l) {
#pragma unroll
    for (int slot = 0; slot < slots; ++slot) {
        const int i = row_in_cta(slot);
        if (i < row_count()) l.residual[slot] = load_global(a.residual + first_row() + i);
    }
}

__device__ __forceinline__ void dot(const Arguments& a, Locals& l) {
    multiply_rows(a, l.x);
    __syncthreads();
}

__device__ __forceinline__ void add(const Arguments& a, Locals& l) {
#pragma unroll
    for (int slot = 0; slot < slots; ++slot) {
        const int i = row_in_cta(slot);
        if (i < row_count()) a.y[first_row() + i] = l.residual[slot] + product(i);
    }
}
