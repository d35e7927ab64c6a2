// The ticket on the CPU. Each CTA runs on the SM that the test says.
#pragma once

extern "C" inline unsigned sm_of_cta[1024] = {};

inline unsigned sm_number() { return sm_of_cta[blockIdx.x]; }
inline unsigned add_to_ticket(unsigned* ticket, unsigned count) {
    const unsigned before = *ticket;
    *ticket += count;
    return before;
}
inline void clear_ticket(unsigned* ticket) { *ticket = 0; }
