// Instead of the clusters of the GPU. A number that is sent arrives when its receiver waits for it; sending before the
// barrier counts as a wrong read.
#pragma once

#include "bulk_copy.cuh"

template <class Launch> constexpr int clusters_of = ctas_of<Launch> / Launch::cluster;
template <class Launch> int cluster_in_grid() { return cta_of<Launch>() / Launch::cluster; }
template <class Launch> int rank_in_cluster() { return cta_of<Launch>() % Launch::cluster; }

inline void arrive_in_cluster() {
    on_cpu::Barrier& barrier = on_cpu::cluster;
    on_cpu::current->cluster_round = barrier.round;
    if (++barrier.arrived == barrier.expected) {
        barrier.arrived = 0;
        ++barrier.round;
        ++on_cpu::progress;
    }
}
inline void await_cluster() {
    while (on_cpu::cluster.round == on_cpu::current->cluster_round) on_cpu::yield();
    on_cpu::current->cluster_round = -1;
}

inline long shared_bytes_of_cta;
template <class T> T& shared_of_cta() {
    static T memory[16];
    shared_bytes_of_cta = sizeof(T);
    return memory[on_cpu::current->cta];
}

inline void send(float value, float* own, Arrival* arrival, int rank) {
    on_cpu::bad_reads += on_cpu::current->cluster_round != -1;  // the receiver may not be ready
    const long distance = (rank - static_cast<long>(on_cpu::current->cta)) * shared_bytes_of_cta;
    const auto there = [&](void* p) { return static_cast<char*>(p) + distance; };
    on_cpu::begin(there(own), &value, sizeof(value), there(arrival));
}
