// Prefix sums over the threads of a CTA, and searches in sorted values.
#pragma once

// Each thread's numbers become the sums of those of the threads before it; `total` those of all threads. Consecutive
// calls take turns between two buffers, so one barrier is enough: `turn` is 0, 1, 0, ...
template <class Launch, class T, int count>
__device__ __forceinline__ void scan(T (&x)[count], T (&total)[count], int& turn) {
    static_assert(has_whole_warps<Launch>, "prefix sums need whole warps");
    constexpr int warps = warps_of<Launch>;
    __shared__ T sums[2][count][32];
    const int lane = thread_of<Launch>() % 32, warp = thread_of<Launch>() / 32;
    T own[count];
#pragma unroll
    for (int k = 0; k < count; ++k) {
        own[k] = x[k];
#pragma unroll
        for (int distance = 1; distance < 32; distance *= 2) {
            const T other = __shfl_up_sync(~0u, x[k], distance);
            if (lane >= distance) x[k] += other;
        }
        if (lane == 31) sums[turn][k][warp] = x[k];
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < count; ++k) {
        const T of_warp = lane < warps ? sums[turn][k][lane] : 0;
        T through = of_warp;
#pragma unroll
        for (int distance = 1; distance < warps; distance *= 2) {
            const T other = __shfl_up_sync(~0u, through, distance);
            if (lane >= distance) through += other;
        }
        total[k] = __shfl_sync(~0u, through, warps - 1);
        x[k] += __shfl_sync(~0u, through - of_warp, warp) - own[k];
    }
    turn ^= 1;
}

// The last number from `first` to before `stop` at which `value` does not exceed `limit`: `value` does not decrease,
// and does not exceed it at `first`. Three values are looked at together, so a quarter is left each time.
template <class T, class F> __device__ __forceinline__ int last_within(int first, int stop, T limit, F value) {
#pragma unroll 1
    while (stop - first > 1) {
        const int quarter = (stop - first + 3) / 4, last = stop - 1;
        const int a = min(first + quarter, last), b = min(first + 2 * quarter, last), c = min(first + 3 * quarter, last);
        const bool from_a = value(a) <= limit, from_b = value(b) <= limit, from_c = value(c) <= limit;
        stop = from_c ? stop : from_b ? c : from_a ? b : a;
        first = from_c ? c : from_b ? b : from_a ? a : first;
    }
    return first;
}
