// y = silu(w_gate n) * (w_up n), where n is x / sqrt(mean(x^2) + eps) * scale. Rows of the two matrices take turns.

using Weight = Types::w_gate;
constexpr int columns = Dims::K;
constexpr int most_rows = 2 * ceil_div(Dims::N, ctas_of<Launch>);
constexpr int bytes_on_their_way = 8192;
constexpr int ahead_in_l2 = 1;  // attention, which runs meanwhile, waits more than it loads

__device__ __forceinline__ int start_of_cta(int cta) { return 2 * start_of_share<Dims::N, ctas_of<Launch>>(cta); }
#include "norm_stream.cuh"

__device__ __forceinline__ const unsigned char* row_address(const Arguments& a, int row) {
    return row_of(row % 2 ? a.w_up : a.w_gate, row / 2);
}

struct Locals {
    Normalized input;
};

__device__ __forceinline__ void load_weights(const Arguments& a, Locals&) { fill_rings(a); }

__device__ __forceinline__ void load_scale(const Arguments& a, Locals& l) { load_shares(a.scale, l.input.scale); }

__device__ __forceinline__ void normalize(const Arguments& a, Locals& l) {
    load_normalized(a.x, a.eps(), l.input);
}

__device__ __forceinline__ void dot(const Arguments& a, Locals& l) { multiply_rows(a, l.input); }

// Where exp overflows, the quotient is zero, as it should be.
__device__ __forceinline__ void activate(const Arguments& a, Locals& l) {
    const float factor = factor_of(l.input);
#pragma unroll 1
    for (int i = thread_of<Launch>(); 2 * i < row_count(); i += Launch::threads) {
        const float gate = product(2 * i) * factor, up = product(2 * i + 1) * factor;
        a.y[first_row() / 2 + i] = gate / (1.0f + expf(-gate)) * up;
    }
}
