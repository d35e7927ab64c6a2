// Vectors as the tensor cores take them: each element is the sum of two numbers of a short type, the rounded one and
// what is left. The rounded ones of two neighbours come first, then the two that are left, as a lane's fragment has
// them. Who computes an element divides it, once; everybody reads it.
#pragma once

#include "tensor_core.cuh"

// Two neighbours, from an even place on, divided.
template <class T> __device__ __forceinline__ uint2 divided(float first, float second) {
    const unsigned rounded = packed<T>(first, second);
    const T halves[] = {{static_cast<unsigned short>(rounded)}, {static_cast<unsigned short>(rounded >> 16)}};
    return {rounded, packed<T>(first - widened(halves[0]), second - widened(halves[1]))};
}

// Stores an element, or two neighbours, by their place among all elements.
template <class T> __device__ __forceinline__ void store_divided(T* to, long long place, float x) {
    const T rounded = narrowed<T>(x);
    T* const both = to + place / 2 * 4 + place % 2;
    both[0] = rounded;
    both[2] = narrowed<T>(x - widened(rounded));
}
template <class T> __device__ __forceinline__ void store_divided(T* to, long long place, float first, float second) {
    *reinterpret_cast<uint2*>(to + 2 * place) = divided<T>(first, second);
}
