// Rotary pairs: adjacent elements, turned by an angle that grows with the position.
#pragma once

// The even and the odd element.
struct Pair {
    float even, odd;
};

struct Turn {
    float cosine, sine;
};

// The turn at a position, for a frequency in radians a position.
__device__ __forceinline__ Turn turn_at(int position, float frequency) {
    // In half turns, reduced in f64: exact for every angle, without the slow path of sincosf.
    const double turns = static_cast<double>(static_cast<float>(position) * frequency) * 0.15915494309189535;
    Turn turn;
    sincospif(2.0f * static_cast<float>(turns - rint(turns)), &turn.sine, &turn.cosine);
    return turn;
}
__device__ __forceinline__ Pair turned(Pair x, Turn by) {
    return {x.even * by.cosine - x.odd * by.sine, x.even * by.sine + x.odd * by.cosine};
}

template <class T> __device__ __forceinline__ void store_pair(T* to, Pair x) {
    to[0] = narrowed<T>(x.even);
    to[1] = narrowed<T>(x.odd);
}
