// Instead of barriers of some warps.
#pragma once

inline on_cpu::Barrier& numbered_barrier(int number, int threads) {
    static std::vector<on_cpu::Barrier> all;
    const size_t place = 16 * on_cpu::current->cta + number;
    if (all.size() <= place) all.resize(place + 16);
    all[place].expected = threads;
    return all[place];
}
inline void await_barrier(int number, int threads) { on_cpu::arrive(numbered_barrier(number, threads)); }
inline void arrive_at_barrier(int number, int threads) {
    on_cpu::Barrier& barrier = numbered_barrier(number, threads);
    if (++barrier.arrived < barrier.expected) return;
    barrier.arrived = 0;
    ++barrier.round;
}

template <int number, int threads> inline void named_barrier() {
    static std::vector<on_cpu::Barrier> of_ctas;
    const size_t cta = on_cpu::current->cta;
    if (of_ctas.size() <= cta) of_ctas.resize(cta + 1, on_cpu::Barrier{threads});
    on_cpu::arrive(of_ctas[cta]);
}
