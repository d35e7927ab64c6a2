// Counters by which CTAs know who of them is the last one (PTX ISA, atom.acq_rel).
#pragma once

// Adds 1, and from `last` on makes it 0; returns what the counter was. It releases what the CTA stored before a barrier
// in front of it, and acquires what those released who arrived before.
__device__ __forceinline__ unsigned arrive_and_count(int* counter, unsigned last) {
    unsigned before;
    asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;" : "=r"(before) : "l"(counter), "r"(last) : "memory");
    return before;
}
