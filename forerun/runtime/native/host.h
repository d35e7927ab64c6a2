// What kernels of the host share: element types, dot products, and which part of the work a thread does.
#pragma once

#include <cmath>
#include <cstring>

struct bf16 { unsigned short bits; };
using f16 = _Float16;

inline float widened(float x) { return x; }
inline float widened(f16 x) { return static_cast<float>(x); }
inline float widened(bf16 x) {
    const unsigned bits = static_cast<unsigned>(x.bits) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

// One of several equal parts of some work; parts differ by one item at most.
struct Part {
    int number, parts;
    long begin(long items) const { return items * number / parts; }
    long end(long items) const { return items * (number + 1) / parts; }
};

// Sums are taken in the order that the vector unit likes, as on a GPU.
template <class T> inline float dot(const T* w, const float* x, long count) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (long i = 0; i < count; ++i) sum += widened(w[i]) * x[i];
    return sum;
}
