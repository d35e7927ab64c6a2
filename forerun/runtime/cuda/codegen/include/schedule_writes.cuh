// Where the items of each CTA lie, and the arrays of a schedule in memory, of any family.
//
// Who includes this has a `Plan`: a `fault`, a `status`, where the items of the thread's CTA `start`, and `items` (see
// schedule_shares.cuh); where the longest come first, `memory` too (see longest_first.cuh). An axis may be cut between
// blocks of `axis_block`.
#pragma once

// Where the items of the thread's CTA begin, if CTAs take equal shares of the line: the item at the border goes to the
// CTA in whose share its middle lies.
template <class Items> __device__ __forceinline__ int start_of_share(const Items& items) {
    const Wide total = items.total(), second = items.second();
    const int cta = thread_of<Launch>();
    // Of two lines, the second one may be empty.
    if (two_lines && border_of(cta, total, second) == total) return items.count();
    const At at = items.at_border();
    const Wide twice = at.begin + at.end;
    if constexpr (!two_lines) return at.item + (twice * ctas < 2 * cta * total);
    const int on_second = cta - half_of_ctas;
    if (on_second < 0) return at.item + (twice * half_of_ctas < 2 * cta * second);
    return at.item + ((twice - 2 * second) * half_of_ctas < 2 * on_second * (total - second));
}

// Item i goes to CTA i % ctas.
__device__ __forceinline__ int start_of_turns(int count, int cta) {
    return cta * (count / ctas) + min(cta, count % ctas);
}

template <class A, class P> __device__ __forceinline__ int place_of(const A& a, const P& plan, int item) {
    if constexpr (longest_first) return place_of_item(plan.memory, item);
    if (a.policy() == PREFIX_SUMS) return item;
    return start_of_turns(plan.items.count(), item % ctas) + item / ctas;
}

// Only the first CTA of the grid asks.
template <class A, class P> __device__ __forceinline__ int start_of_cta(const A& a, const P& plan) {
    const int cta = thread_of<Launch>(), count = plan.items.count();
    if (cta == 0 || cta >= ctas || count == 0 || cta_of<Launch>() > 0) return 0;
    if constexpr (longest_first) return plan.memory.starts[cta];
    return a.policy() == PREFIX_SUMS ? start_of_share(plan.items) : start_of_turns(count, cta);
}

// Four words at a multiple of 16 bytes.
__device__ __forceinline__ void store_words(int* words, int a, int b, int c, int d) {
    *reinterpret_cast<uint4*>(words) = {
        static_cast<unsigned>(a), static_cast<unsigned>(b), static_cast<unsigned>(c), static_cast<unsigned>(d)};
}

template <class A, class P> __device__ __forceinline__ void write_items(const A& a, const P& plan) {
    plan.items.for_each(threads_of_grid(), [&](int number, const Piece& piece) {
        int* words = a.items + 8LL * place_of(a, plan, number);
        const int end = piece.end == piece.tile.blocks ? piece.tile.length : piece.end * axis_block;
        store_words(words, piece.owner, piece.lane, piece.number, piece.tile.size);
        store_words(words + 4, piece.begin * axis_block, end, piece.slot, piece.counter);
    });
}

// The status, the counts, and where the items of each CTA begin.
template <class A, class P> __device__ __forceinline__ void write_heads(const A& a, const P& plan) {
    const int thread = thread_of<Launch>();
    const bool is_good = plan.fault == no_fault;
    if (thread == 0) {
        a.status[0] = is_good ? plan.status : status_of(plan.fault);
        a.status[1] = is_good ? nowhere : static_cast<int>(plan.fault);
        a.counts[0] = a.pointers[ctas] = is_good ? plan.items.count() : 0;
        a.counts[1] = is_good ? plan.items.slots() : 0;
        a.counts[2] = is_good ? plan.items.counters() : 0;
    }
    if (thread < ctas) a.pointers[thread] = is_good ? plan.start : 0;
}

// Called by the whole grid.
template <class A, class P> __device__ __forceinline__ void write_schedule(const A& a, const P& plan) {
    if (cta_of<Launch>() == 0) write_heads(a, plan);
    if (plan.fault != no_fault || (writes_heads && cta_of<Launch>() == 0)) return;
    write_items(a, plan);
    plan.items.write_counters();
}
