// The sequences of a step, each with scalars and buffers of its own: pos0, k_cache0, v_cache0, pos1, and so on. The
// vectors of a batch are their tokens: each sequence has as many, one after the other, from its position on.
#pragma once

template <int number> struct Sequence {};
template <int number> struct Rank : Rank<number - 1> {};
template <> struct Rank<0> {};

#define SEQUENCE(i)                                                                                                  \
    template <class A> __device__ constexpr auto sequences_of(Rank<i + 1>)->decltype(&A::pos##i, 0) { return i + 1; } \
    template <class A> __device__ __forceinline__ int position_of(const A& a, Sequence<i>) { return a.pos##i(); }      \
    template <class A> __device__ __forceinline__ auto keys_of(const A& a, Sequence<i>) { return a.k_cache##i; }       \
    template <class A> __device__ __forceinline__ auto values_of(const A& a, Sequence<i>) { return a.v_cache##i; }
SEQUENCE(0)
SEQUENCE(1)
SEQUENCE(2)
SEQUENCE(3)
SEQUENCE(4)
SEQUENCE(5)
SEQUENCE(6)
SEQUENCE(7)
#undef SEQUENCE

// How many there are.
constexpr int sequences = sequences_of<Arguments>(Rank<8>{});
constexpr int tokens = Dims::B / sequences;
static_assert(tokens * sequences == Dims::B, "sequences have as many tokens each");

// What f gives for one of them.
template <class F, int last = sequences - 1> __device__ __forceinline__ auto of_sequence(int number, F f) {
    if constexpr (last > 0) return number == last ? f(Sequence<last>{}) : of_sequence<F, last - 1>(number, f);
    else return f(Sequence<0>{});
}
__device__ __forceinline__ int position_of(const Arguments& a, int sequence) {
    return of_sequence(sequence, [&](auto each) { return position_of(a, each); });
}
__device__ __forceinline__ auto keys_of(const Arguments& a, int sequence) {
    return of_sequence(sequence, [&](auto each) { return keys_of(a, each); });
}
__device__ __forceinline__ auto values_of(const Arguments& a, int sequence) {
    return of_sequence(sequence, [&](auto each) { return values_of(a, each); });
}
