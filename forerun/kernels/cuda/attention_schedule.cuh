// The schedule of a batch of attention: what forerun.schedules.make_schedule makes, bit by bit.
//
// The cost of each tile is on a line, one tile of a request behind the other; the KV heads of a request repeat its part
// of the line. So one prefix sum over the tiles of requests is enough, and whoever has a place on the line finds the
// task by binary search. Nothing depends on the capacity but the sizes of arrays.
//
// Each CTA of the grid makes the whole schedule for itself, in shared memory, and writes a part of it: nobody waits for
// another CTA. `plan` reads the batch, and `write` writes, so that a grid can plan before those before it have ended.
//
// Whoever includes this says how tasks are cut (`by_request`) and dealt (`longest_first`).
#pragma once

#include "attention_tasks.cuh"

static_assert(ctas >= 1 && ctas <= Launch::threads, "each border between the shares of CTAs has a thread");

constexpr int classes = 32;  // of the costs of items, if the longest come first

#include "attention_lines.cuh"
#include "attention_pages.cuh"

// An item, and where it begins and ends on the line.
struct At {
    int item;
    Wide begin, end;
};

#include "attention_equal_parts.cuh"
#include "attention_shares.cuh"
#include "longest_first.cuh"

template <bool is_first> struct Choice {
    template <class A, class B> using type = A;
};
template <> struct Choice<false> {
    template <class A, class B> using type = B;
};
using Items = Choice<by_request>::type<EqualParts, Shares>;

// What is known before anything is written: where the items of the thread's CTA of the schedule begin, too.
struct Plan {
    Fault fault;
    int status, start;
    Memory memory;
    Items items;
};
struct Locals {
    Plan plan;
};

// Where the items of the thread's CTA begin, if CTAs take equal shares of the line: the item at the border goes to the
// CTA in whose share its middle lies.
__device__ __forceinline__ int start_of_share(const Items& items) {
    const At at = items.at_border();
    return at.item + ((at.begin + at.end) * ctas < 2 * thread_of<Launch>() * items.total());
}

// Item i goes to CTA i % ctas.
__device__ __forceinline__ int start_of_turns(int count, int cta) {
    return cta * (count / ctas) + min(cta, count % ctas);
}

__device__ __forceinline__ int place_of(const Arguments& a, const Plan& plan, int item) {
    if constexpr (longest_first) return place_of_item(plan.memory, item);
    if (a.policy() == PREFIX_SUMS) return item;
    return start_of_turns(plan.items.count(), item % ctas) + item / ctas;
}

__device__ __forceinline__ int start_of_cta(const Arguments& a, const Plan& plan) {
    const int cta = thread_of<Launch>(), count = plan.items.count();
    if (cta == 0 || cta >= ctas || count == 0) return 0;
    if constexpr (longest_first) return plan.memory.starts[cta];
    return a.policy() == PREFIX_SUMS ? start_of_share(plan.items) : start_of_turns(count, cta);
}

// Cuts the tasks of a batch whose requests are right, or says what does not fit.
__device__ __forceinline__ Fault cut(const Arguments& a, const Lines& lines, Plan& plan, int& turn) {
    const Wide heads = a.kv_heads();
    if (__mul64hi(lines.length, heads) > 0 || static_cast<Fault>(lines.length * heads) > 1ull << 40) {
        return fault_of(TOO_MUCH_WORK, nowhere);
    }
    if (lines.tiles() > lines.memory.tiles) return fault_of(TOO_MANY_ITEMS, nowhere);
    cut_items(a, lines, plan.items, plan.status, turn);
    return no_fault;
}

__device__ __forceinline__ Plan make_plan(const Arguments& a) {
    __shared__ Fault fault;
    const int count = load_global(a.requests);
    const Memory memory = memory_of(a);
    const Lines nothing = {a, memory, count, 0};
    Plan plan = {no_fault, OK, 0, memory, {a, nothing}};
    if (thread_of<Launch>() == 0) fault = no_fault;
    __syncthreads();
    plan.fault = count < 1 ? fault_of(NO_REQUESTS, nowhere) : fault_of(TOO_MANY_REQUESTS, nowhere);
    if (count < 1 || count > most_requests) return plan;
    plan.fault = fault_of(TOO_MANY_ITEMS, nowhere);
    if (plan.memory.bytes > Launch::shared_bytes) return plan;
    // A number of pages that is wrong is told later; until then it is none.
    Pages pages = {load_global(a.page_pointers + count)};
    if (pages.listed < 0 || pages.listed > most_pages) pages.listed = 0;
    load_vectors(a, 0, pages);
    int turn = 0;
    const Lines lines = lay_out(a, count, plan.memory, &fault, plan.fault, turn);
    if (plan.fault != no_fault) return plan;
    check_pages(a, count, pages, &fault, plan.memory);
    const Fault misfit = cut(a, lines, plan, turn);
    __syncthreads();
    plan.fault = min(fault, misfit);
    if (plan.fault != no_fault) return plan;
    if constexpr (longest_first) deal_longest_first(plan.items, plan.items.count(), plan.memory, turn);
    plan.start = start_of_cta(a, plan);
    return plan;
}

__device__ __forceinline__ void plan(const Arguments& a, Locals& locals) { locals.plan = make_plan(a); }

// Four words at a multiple of 16 bytes.
__device__ __forceinline__ void store_words(int* words, int a, int b, int c, int d) {
    *reinterpret_cast<uint4*>(words) = {
        static_cast<unsigned>(a), static_cast<unsigned>(b), static_cast<unsigned>(c), static_cast<unsigned>(d)};
}

__device__ __forceinline__ void write_items(const Arguments& a, const Plan& plan) {
    plan.items.for_each(threads_of_grid(), [&](int number, const Piece& piece) {
        int* words = a.items + 8LL * place_of(a, plan, number);
        const int end = piece.end == piece.tile.blocks ? piece.tile.length : piece.end * kv_block;
        store_words(words, piece.request, piece.lane, piece.number, piece.tile.size);
        store_words(words + 4, piece.begin * kv_block, end, piece.slot, piece.counter);
    });
}

// The status, the counts, and where the items of each CTA begin.
__device__ __forceinline__ void write_heads(const Arguments& a, const Plan& plan) {
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

__device__ __forceinline__ void write(const Arguments& a, Locals& locals) {
    if (cta_of<Launch>() == 0) write_heads(a, locals.plan);
    if (locals.plan.fault != no_fault) return;
    write_items(a, locals.plan);
    locals.plan.items.write_counters();
}
