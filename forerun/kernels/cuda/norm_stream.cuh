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

// The weights for one step.
__device__ __forceinline__ void take_scale(int step, float (&scale)[piece]) {
    const float* from = reinterpret_cast<const float*>(dynamic_shared + scale_at) + part_of_row() * tile;
#pragma unroll
    for (int i = 0; i < piece; i += 4) {
        const uint4 v = in_tile(step) ? load_shared16(from + (step * 32 + lane()) * piece + i) : uint4{0, 0, 0, 0};
        scale[i] = __uint_as_float(v.x);
        scale[i + 1] = __uint_as_float(v.y);
        scale[i + 2] = __uint_as_float(v.z);
        scale[i + 3] = __uint_as_float(v.w);
    }
}

// While x is on its way, weights for half of it go to registers; for all there is no room.
__device__ __forceinline__ void load_normalized(const float* x, float epsilon, Normalized& to) {
    constexpr int early = ceil_div(steps, 2);
    Vector scale;
    await_arrival(scale_arrival(), 0);
    load_vector(x, to.x);
#pragma unroll
    for (int step = 0; step < early; ++step) take_scale(step, scale[step]);
    float squares[4] = {};
#pragma unroll
    for (int step = 0; step < steps; ++step) {
        if (step + early < steps) take_scale(step + early, scale[step + early]);
#pragma unroll
        for (int i = 0; i < piece; ++i) {
            squares[i % 4] = fmaf(to.x[step][i], to.x[step][i], squares[i % 4]);
            to.x[step][i] *= scale[step][i];
        }
    }
    to.squares = (squares[0] + squares[1]) + (squares[2] + squares[3]);
    to.epsilon = epsilon;
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
