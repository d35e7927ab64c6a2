// Rows of bf16 or f16 from f32.
#pragma once

#include "tensor_core.cuh"

// As many numbers, rounded: four at a multiple of 8 bytes, or one by one.
template <class T, int elements> __device__ __forceinline__ void store_short(T* to, const float (&x)[elements]) {
    static_assert(sizeof(T) == 2, "results are bf16 or f16");
    if constexpr (elements % 4 == 0) {
#pragma unroll
        for (int i = 0; i < elements; i += 4) {
            const unsigned low = packed<T>(x[i], x[i + 1]), high = packed<T>(x[i + 2], x[i + 3]);
            *reinterpret_cast<unsigned long long*>(to + i) = low | static_cast<unsigned long long>(high) << 32;
        }
    } else {
#pragma unroll
        for (int i = 0; i < elements; ++i) to[i] = narrowed<T>(x[i]);
    }
}
