// The first of the greatest, as NumPy's argmax sees it: NaN is greater than every number, -0 equals 0.

// A value and its index in one number, which is greater for what is to be preferred. Zero is less than any.
__device__ __forceinline__ unsigned long long key_of(float value, int index) {
    const unsigned bits = __float_as_uint(value == 0.0f ? 0.0f : value);
    const unsigned order = value != value ? ~0u : bits >> 31 ? ~bits : bits | 0x80000000u;
    return static_cast<unsigned long long>(order) << 32 | ~static_cast<unsigned>(index);
}
__device__ __forceinline__ int index_of(unsigned long long key) {
    return static_cast<int>(~static_cast<unsigned>(key));
}
__device__ __forceinline__ float value_of(unsigned long long key) {
    const unsigned order = static_cast<unsigned>(key >> 32);
    return __uint_as_float(order >> 31 ? order & 0x7FFFFFFFu : ~order);
}

// The greatest key of the CTA; every thread gets it.
template <class Launch> __device__ __forceinline__ unsigned long long greatest_key(unsigned long long key) {
    static_assert(has_whole_warps<Launch>, "a reduction needs whole warps");
    constexpr int warps = warps_of<Launch>;
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) key = max(key, __shfl_xor_sync(~0u, key, distance));
    if constexpr (warps > 1) {
        __shared__ unsigned long long keys[warps];
        const int thread = thread_of<Launch>();
        if (thread % 32 == 0) keys[thread / 32] = key;
        __syncthreads();
#pragma unroll
        for (int warp = 0; warp < warps; ++warp) key = max(key, keys[warp]);
    }
    return key;
}

// The greatest key of some elements that is less than another one; every thread gets it. It may be called again.
template <class Launch, int count>
__device__ __forceinline__ unsigned long long greatest_key_below(const float* elements, unsigned long long bound) {
    unsigned long long key = 0;
#pragma unroll 4
    for (int i = thread_of<Launch>(); i < count; i += Launch::threads) {
        const unsigned long long own = key_of(load_global(elements + i), i);
        if (own < bound) key = max(key, own);
    }
    if (warps_of<Launch> > 1) __syncthreads();  // the keys of the last call have been read
    return greatest_key<Launch>(key);
}
