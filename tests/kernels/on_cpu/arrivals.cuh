// Instead of an atomic operation that releases and acquires: threads take turns at barriers only.
#pragma once

inline unsigned arrive_and_count(int* counter, unsigned last) {
    const unsigned before = static_cast<unsigned>(*counter);
    *counter = before >= last ? 0 : before + 1;
    return before;
}
