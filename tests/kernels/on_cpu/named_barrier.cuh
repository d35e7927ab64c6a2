// Instead of barriers of some warps.
#pragma once

template <int number, int threads> inline void named_barrier() {
    static std::vector<on_cpu::Barrier> of_ctas;
    const size_t cta = on_cpu::current->cta;
    if (of_ctas.size() <= cta) of_ctas.resize(cta + 1, on_cpu::Barrier{threads});
    on_cpu::arrive(of_ctas[cta]);
}
