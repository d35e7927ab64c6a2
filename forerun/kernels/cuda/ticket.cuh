// What deals shares needs of the machine: the SM's number (PTX ISA, %smid), and a word of global memory that all CTAs
// count in.
#pragma once

__device__ __forceinline__ unsigned sm_number() {
    unsigned sm;
    asm volatile("mov.u32 %0, %%smid;" : "=r"(sm));
    return sm;
}

// Adds to the ticket, and tells what it was before.
__device__ __forceinline__ unsigned add_to_ticket(unsigned* ticket, unsigned count) {
    unsigned before;
    asm volatile("atom.relaxed.gpu.global.add.u32 %0, [%1], %2;" : "=r"(before) : "l"(ticket), "r"(count) : "memory");
    return before;
}

__device__ __forceinline__ void clear_ticket(unsigned* ticket) {
    asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(ticket), "r"(0) : "memory");
}
