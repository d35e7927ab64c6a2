// Normalizes the vector of row_stream.cuh: n = x / sqrt(mean(x^2) + eps) * scale. Every CTA does it for itself: its
// threads multiply their shares of x by `scale`, and put them into shared memory for the warps. The root divides the
// products, so that nobody has to wait for the sum of the squares first.

constexpr bool normalized = true;
#include "row_stream.cuh"

// A thread's share: 16 bytes of each of several parts.
constexpr int shares = ceil_div(columns / piece, Launch::threads);

struct Normalized {
    float scale[shares][piece];
    Vector x;
    float squares, epsilon;
};

__device__ __forceinline__ int share_at(int i) { return (i * Launch::threads + thread_of<Launch>()) * piece; }

__device__ __forceinline__ void load_share(const float* from, float (&to)[shares][piece]) {
#pragma unroll
    for (int i = 0; i < shares; ++i) load_floats(from + share_at(i), to[i], share_at(i) < columns);
}

__device__ __forceinline__ void load_normalized(const float* x, float epsilon, Normalized& to) {
    float share[shares][piece], squares[piece] = {};
    float* vector = reinterpret_cast<float*>(dynamic_shared + vector_at);
    load_share(x, share);
#pragma unroll
    for (int i = 0; i < shares; ++i) {
#pragma unroll
        for (int e = 0; e < piece; ++e) {
            squares[e] = fmaf(share[i][e], share[i][e], squares[e]);
            share[i][e] *= to.scale[i][e];
        }
        if (share_at(i) < columns) store_floats(vector + share_at(i), share[i]);
    }
    to.squares = (squares[0] + squares[1]) + (squares[2] + squares[3]);
    to.epsilon = epsilon;
    __syncthreads();
#pragma unroll
    for (int step = 0; step < steps; ++step) {
        const float4 v = in_tile(step) ? *reinterpret_cast<const float4*>(vector + element_at(step)) : float4{};
        to.x[step][0] = v.x;
        to.x[step][1] = v.y;
        to.x[step][2] = v.z;
        to.x[step][3] = v.w;
    }
}

// Multiplies all rows of the CTA; then every thread may ask for products with n.
__device__ __forceinline__ void multiply_rows(const Arguments& a, Normalized& by) {
    multiply_rows(a, by.x);
    by.squares = cta_sum<Launch>(by.squares);
    if (warps == 1) __syncwarp();  // else there was a barrier
}

// What the products are to be multiplied by.
__device__ __forceinline__ float factor_of(const Normalized& by) {
    return rsqrtf(by.squares / columns + by.epsilon);
}
