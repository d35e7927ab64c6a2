// When the items of a schedule begin and end, and where: a record of four words an item, in the order of the items. A
// kernel that has no parameter `records` has no code of this.
#pragma once

#include "clock.cuh"

template <class A, class = void> constexpr bool keeps_records = false;
template <class A> constexpr bool keeps_records<A, decltype(void(static_cast<A*>(nullptr)->records))> = true;

// Called by all threads that work on an item, with its number in the schedule; `recorder` keeps the record. If a CTA has
// two shares of a schedule, the second one has the number of the CTA and all CTAs.
template <class A> __device__ __forceinline__ void record_begin(const A& a, int item, int recorder = 0, bool second = false) {
    if constexpr (keeps_records<A>) {
        if (thread_of<Launch>() != recorder) return;
        long long* const record = a.records + 4LL * item;
        record[2] = number_of_sm();
        record[3] = cta_of<Launch>() + second * ctas_of<Launch>;
        record[0] = global_nanoseconds();
    }
}
template <class A> __device__ __forceinline__ void record_end(const A& a, int item, int recorder = 0) {
    if constexpr (keeps_records<A>) {
        if (thread_of<Launch>() == recorder) a.records[4LL * item + 1] = global_nanoseconds();
    }
}
