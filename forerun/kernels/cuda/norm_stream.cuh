// Normalizes the vector of row_stream.cuh: n = x / sqrt(mean(x^2) + eps) * scale. Every CTA does it for itself: its
// threads multiply their shares of x by `scale`, and put them into shared memory for the warps. The root divides the
// products, so that nobody has to wait for the sum of the squares first.

constexpr bool vector_is_shared = true;
#include "row_stream.cuh"

struct Normalized {
    Shares scale;
    Vector x;
    float squares, epsilon;
};

__device__ __forceinline__ void load_normalized(const float* x, float epsilon, Normalized& to) {
    Shares all;
    float squares[share] = {};
    load_shares(x, all);
#pragma unroll
    for (int i = 0; i < shares; ++i) {
#pragma unroll
        for (int e = 0; e < share; ++e) {
            squares[e] = fmaf(all[i][e], all[i][e], squares[e]);
            all[i][e] *= to.scale[i][e];
        }
    }
    put_shares(all);
    to.squares = (squares[0] + squares[1]) + (squares[2] + squares[3]);
    to.epsilon = epsilon;
    __syncthreads();
    get_vector(to.x);
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
