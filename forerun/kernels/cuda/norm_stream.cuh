// Normalizes the vector of row_stream.cuh: n = x / sqrt(mean(x^2) + eps) * scale. Every CTA does it for itself. Only
// `scale` is multiplied by at once; the root divides the products, so that no warp has to wait for the others' squares.

constexpr bool scaled = true;
#include "row_stream.cuh"

__device__ __forceinline__ Arrival* scale_arrival() {
    return reinterpret_cast<Arrival*>(dynamic_shared + arrivals_at) + warps * depth;
}
__device__ __forceinline__ float* sums_of_squares() { return sums() + most_rows * split; }

// Begins to load the norm's weights.
__device__ __forceinline__ void begin_scale(const float* scale) {
    if (thread_of<Launch>() == 0) {
        prepare(scale_arrival());
        publish_prepared();
        begin_copy(dynamic_shared + scale_at, scale, scale_bytes, scale_arrival());
    }
    __syncthreads();
}

// What a lane has of x, times the weights; the sum of its squares.
struct Normalized {
    Vector x;
    float squares, epsilon;
};

// The sum of the squares of what the lane has.
__device__ __forceinline__ float squares_of(const Vector& x) {
    float squares[4] = {};
#pragma unroll
    for (int step = 0; step < steps; ++step) {
#pragma unroll
        for (int i = 0; i < piece; ++i) squares[i % 4] = fmaf(x[step][i], x[step][i], squares[i % 4]);
    }
    return (squares[0] + squares[1]) + (squares[2] + squares[3]);
}

// Multiplies the vector by the norm's weights.
__device__ __forceinline__ void scale_vector(Vector& x) {
    await_arrival(scale_arrival(), 0);
    const float* scale = reinterpret_cast<const float*>(dynamic_shared + scale_at) + part_of_row() * tile;
#pragma unroll
    for (int step = 0; step < steps; ++step) {
        if (!in_tile(step)) continue;
#pragma unroll
        for (int i = 0; i < piece; i += 4) {
            const uint4 v = load_shared16(scale + (step * 32 + lane()) * piece + i);
            x[step][i] *= __uint_as_float(v.x);
            x[step][i + 1] *= __uint_as_float(v.y);
            x[step][i + 2] *= __uint_as_float(v.z);
            x[step][i + 3] *= __uint_as_float(v.w);
        }
    }
}

__device__ __forceinline__ void load_normalized(const float* x, float epsilon, Normalized& to) {
    load_vector(x, to.x);
    to.squares = squares_of(to.x);
    to.epsilon = epsilon;
    scale_vector(to.x);
}

// Multiplies all rows of the CTA; then every thread may ask for products with n.
__device__ __forceinline__ void multiply_rows(const Arguments& a, const Normalized& by) {
    multiply_rows(a, by.x);
    const float squares = warp_sum(by.squares);
    if (group() == 0 && lane() == 0) sums_of_squares()[part_of_row()] = squares;
    __syncthreads();
}

// What the products are to be multiplied by.
__device__ __forceinline__ float factor_of(const Normalized& by) {
    return rsqrtf(sum_of_parts(sums_of_squares()) / columns + by.epsilon);
}
