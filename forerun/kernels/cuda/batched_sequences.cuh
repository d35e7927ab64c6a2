// The sequences of a step, each with scalars and buffers of its own: pos0, k_cache0, v_cache0, pos1, and so on. The
// vectors of a batch are their tokens: each sequence has as many, one after the other, from its position on.
#pragma once

template <int number> struct Sequence {};
template <int number> struct Rank : Rank<number - 1> {};
template <> struct Rank<0> {};

#define SEQUENCE(i, pos, keys, values)                                                                              \
    template <class A> __device__ constexpr auto sequences_of(Rank<i + 1>)->decltype(&A::pos, 0) { return i + 1; }    \
    template <class A> __device__ __forceinline__ int position_of(const A& a, Sequence<i>) { return a.pos(); }        \
    template <class A> __device__ __forceinline__ auto keys_of(const A& a, Sequence<i>) { return a.keys; }            \
    template <class A> __device__ __forceinline__ auto values_of(const A& a, Sequence<i>) { return a.values; }
SEQUENCE(0, pos0, k_cache0, v_cache0)
SEQUENCE(1, pos1, k_cache1, v_cache1)
SEQUENCE(2, pos2, k_cache2, v_cache2)
SEQUENCE(3, pos3, k_cache3, v_cache3)
SEQUENCE(4, pos4, k_cache4, v_cache4)
SEQUENCE(5, pos5, k_cache5, v_cache5)
SEQUENCE(6, pos6, k_cache6, v_cache6)
SEQUENCE(7, pos7, k_cache7, v_cache7)
#undef SEQUENCE

// How many there are.
constexpr int sequences = sequences_of<Arguments>(Rank<8>{});
constexpr int tokens = Dims::B / sequences;
static_assert(tokens * sequences == Dims::B, "sequences have as many tokens each");

// The same by a number that is not known before.
template <int last = sequences - 1> __device__ __forceinline__ int position_of(const Arguments& a, int sequence) {
    if constexpr (last > 0) {
        if (sequence != last) return position_of<last - 1>(a, sequence);
    }
    return position_of(a, Sequence<last>{});
}
template <int last = sequences - 1> __device__ __forceinline__ auto keys_of(const Arguments& a, int sequence) {
    if constexpr (last > 0) return sequence == last ? keys_of(a, Sequence<last>{}) : keys_of<last - 1>(a, sequence);
    else return keys_of(a, Sequence<0>{});
}
template <int last = sequences - 1> __device__ __forceinline__ auto values_of(const Arguments& a, int sequence) {
    if constexpr (last > 0) return sequence == last ? values_of(a, Sequence<last>{}) : values_of<last - 1>(a, sequence);
    else return values_of(a, Sequence<0>{});
}
