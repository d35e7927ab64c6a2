// Instead of the clock of the GPU: every look at it takes a nanosecond. A CTA is an SM.
#pragma once

inline long long global_nanoseconds() {
    static long long now = 0;
    return ++now;
}
inline int number_of_sm() { return blockIdx.x; }
