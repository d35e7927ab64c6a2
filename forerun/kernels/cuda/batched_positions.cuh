// The vectors of a batch are tokens of sequences: each sequence has as many, one after the other, from a position on.
#pragma once

// The position of a sequence's first token, a scalar of its own.
template <int count, class A> __device__ __forceinline__ int position_of_sequence(const A& a, int sequence) {
    static_assert(count <= 8, "eight sequences at most");
    if constexpr (count > 7) { if (sequence == 7) return a.pos7(); }
    if constexpr (count > 6) { if (sequence == 6) return a.pos6(); }
    if constexpr (count > 5) { if (sequence == 5) return a.pos5(); }
    if constexpr (count > 4) { if (sequence == 4) return a.pos4(); }
    if constexpr (count > 3) { if (sequence == 3) return a.pos3(); }
    if constexpr (count > 2) { if (sequence == 2) return a.pos2(); }
    if constexpr (count > 1) { if (sequence == 1) return a.pos1(); }
    return a.pos0();
}
