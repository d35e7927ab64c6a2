// Instead of the bulk copies of the GPU. A copy is made when somebody waits for it, as late as it may be.
#pragma once

struct Arrival {
    int missing;  // bytes
    unsigned char prepared, expected, parity;
};
static_assert(sizeof(Arrival) == 8);

inline void prepare(Arrival* arrival) { *arrival = {0, 0xA5, 0, 0}; }
inline void publish_prepared() {}
inline void free_for_copies() {}
inline void expect(Arrival* arrival, int bytes) {
    on_cpu::bad_reads += arrival->prepared != 0xA5 || arrival->expected;
    arrival->expected = 1;
    arrival->missing += bytes;
}
inline void await_arrival(Arrival* arrival, int parity) {
    on_cpu::bad_reads += arrival->prepared != 0xA5;
    while (arrival->parity == parity) {
        arrival->missing -= on_cpu::deliver(arrival);
        if (arrival->expected && arrival->missing == 0) {
            arrival->expected = 0;
            arrival->parity ^= 1;
            ++on_cpu::progress;
        } else {
            on_cpu::yield();
        }
    }
}

inline void begin_expected_copy(void* to, const void* from, int bytes, Arrival* arrival) {
    on_cpu::bad_reads += bytes % 16 || reinterpret_cast<size_t>(to) % 16 || !arrival->expected;
    if (on_cpu::may_read(from, bytes, 16)) on_cpu::begin(to, from, bytes, arrival);
}
inline void begin_copy(void* to, const void* from, int bytes, Arrival* arrival) {
    expect(arrival, bytes);
    begin_expected_copy(to, from, bytes, arrival);
}

inline void begin_prefetch(const void* from, int bytes) {
    on_cpu::bad_reads += bytes % 16;
    on_cpu::may_read(from, bytes, 16);
}
