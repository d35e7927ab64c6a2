// How a persistent kernel works off a schedule, whatever it computes.
#pragma once

#include "arrivals.cuh"

// As forerun.schedules.schedule.Item.
struct Item {
    int owner, lane, tile, size, begin, end, slot, counter;
};
template <class A> __device__ __forceinline__ Item load_item(const A& a, int number) {
    const uint4 head = load16(a.items + 8LL * number), tail = load16(a.items + 8LL * number + 4);
    return {static_cast<int>(head.x), static_cast<int>(head.y), static_cast<int>(head.z), static_cast<int>(head.w),
            static_cast<int>(tail.x), static_cast<int>(tail.y), static_cast<int>(tail.z), static_cast<int>(tail.w)};
}

// The items of the thread's CTA. A schedule is one of `shares` CTAs, which are dealt to those of the grid.
struct ItemRange {
    int first, count;
};
template <int shares, class A> __device__ __forceinline__ ItemRange items_of_cta(const A& a) {
    constexpr int grid = ctas_of<Launch>;
    const int first = load_global(a.pointers + start_of_share<shares, grid>(cta_of<Launch>()));
    return {first, load_global(a.pointers + start_of_share<shares, grid>(cta_of<Launch>() + 1)) - first};
}

// Called by all threads when they have stored what the item has found in its slot. Whether all splits of the task are
// there now; then `first` is the slot of the first one, and `splits` their number. Nobody waits for another CTA.
template <class A> __device__ __forceinline__ bool all_have_arrived(const A& a, const Item& item, int& first, int& splits) {
    __shared__ bool is_last;
    first = load_global(a.counters + 2 * item.counter);
    splits = load_global(a.counters + 2 * item.counter + 1);
    __syncthreads();
    if (thread_of<Launch>() == 0) {
        const unsigned last = static_cast<unsigned>(splits - 1);
        is_last = arrive_and_count(a.arrived + item.counter, last) == last;
    }
    __syncthreads();
    return is_last;
}

// `compute` gets each item, and stores its result where it has no slot, or its partial result in that. `merge` gets the
// first slot of a task and their number, when all are there. All threads call both, with the CTA's dynamic shared memory
// to themselves: there is a barrier behind each item.
template <int shares, class A, class C, class M> __device__ __forceinline__ void run_items(const A& a, C compute, M merge) {
    const ItemRange range = items_of_cta<shares>(a);
#pragma unroll 1
    for (int number = 0; number < range.count; ++number) {
        const Item item = load_item(a, range.first + number);
        int first, splits;
        compute(item);
        if (item.slot >= 0 && all_have_arrived(a, item, first, splits)) merge(item, first, splits);
        __syncthreads();
    }
}
