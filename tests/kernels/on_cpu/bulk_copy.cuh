// Instead of the bulk copies of the GPU. A copy is made when somebody waits for it, as late as it may be.
#pragma once

struct Arrival {
    int missing;  // bytes, or arrivals
    unsigned char prepared, expected, parity, count;
};
static_assert(sizeof(Arrival) == 8);

inline unsigned shared_address(const void* p) {
    return static_cast<unsigned>(static_cast<const unsigned char*>(p) - dynamic_shared);
}

inline void prepare(Arrival* arrival) { *arrival = {0, 0xA5, 0, 0, 0}; }
inline void prepare_for(Arrival* arrival, int count) {
    *arrival = {count, 0xA5, 0, 0, static_cast<unsigned char>(count)};
}
inline void publish_prepared() {}
inline void free_for_copies() {}
inline void expect(Arrival* arrival, int bytes) {
    on_cpu::bad_reads += arrival->prepared != 0xA5 || arrival->expected;
    arrival->expected = 1;
    arrival->missing += bytes;
}
inline void arrive_at(Arrival* arrival) {
    on_cpu::bad_reads += arrival->prepared != 0xA5 || arrival->count == 0;
    if (--arrival->missing) return;
    arrival->missing = arrival->count;
    arrival->parity ^= 1;
    ++on_cpu::progress;
}

// Arrivals that come when their copies are made, which is when somebody waits for them.
inline std::vector<Arrival*> deferred_arrivals;
inline void make_deferred_arrivals(Arrival* arrival) {
    on_cpu::deliver(arrival);
    std::vector<Arrival*> others;
    for (Arrival* each : deferred_arrivals) {
        if (each == arrival) arrive_at(each);
        else others.push_back(each);
    }
    deferred_arrivals = others;
}

inline void await_arrival(Arrival* arrival, int parity) {
    on_cpu::bad_reads += arrival->prepared != 0xA5;
    while (arrival->count && arrival->parity == parity) {
        make_deferred_arrivals(arrival);
        if (arrival->parity == parity) on_cpu::yield();
    }
    if (arrival->count) return;
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
