// The schedule of a batch of attention: what forerun.schedules.make_schedule makes, bit by bit.
//
// The cost of each tile is on a line, one tile of a request behind the other; the KV heads of a request repeat its part
// of the line. So one prefix sum over the tiles of requests is enough, and whoever has a place on the line finds the
// task by binary search. Nothing depends on the capacity but the sizes of arrays.
//
// Each CTA of the grid makes the whole schedule for itself, in shared memory, and writes a part of it: nobody waits for
// another CTA. `plan` reads the batch, and `write` writes, so that a grid can plan before those before it have ended.
//
// Whoever includes this says how tasks are cut (`by_request`) and dealt (`longest_first`), and whether large tiles and small
// ones lie on lines of their own (`two_lines`).
#pragma once

#include "attention_tasks.cuh"

static_assert(ctas >= 1 && ctas <= Launch::threads, "each border between the shares of CTAs has a thread");

constexpr int classes = 32;  // of the costs of items, if the longest come first

#include "attention_lines.cuh"
#include "attention_pages.cuh"
#include "schedule_shares.cuh"
#include "attention_equal_parts.cuh"
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

#include "schedule_writes.cuh"

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
    const int count = load_global(a.requests), thread = thread_of<Launch>();
    // While nobody knows how many requests there are, each thread loads one for which there is room.
    Request own = {};
    if (thread < most_requests) own = load_request(a, thread);
    const Memory memory = memory_of(a);
    const Lines nothing = {a, memory, count, 0, 0};
    Plan plan = {no_fault, OK, 0, memory, {a, nothing}};
    if (thread == 0) fault = no_fault;
    __syncthreads();
    plan.fault = count < 1 ? fault_of(NO_REQUESTS, nowhere) : fault_of(TOO_MANY_REQUESTS, nowhere);
    if (count < 1 || count > most_requests) return plan;
    plan.fault = fault_of(TOO_MANY_ITEMS, nowhere);
    if (plan.memory.bytes > Launch::shared_bytes) return plan;
    Pages pages = {load_global(a.page_pointers + count)};
    int turn = 0;
    const Lines lines = lay_out(a, count, own, plan.memory, &fault, plan.fault, turn);
    if (plan.fault != no_fault) return plan;
    load_vectors(a, 0, pages);  // they are there when the tasks are cut
    const Fault misfit = cut(a, lines, plan, turn);
    check_pages(a, count, pages, &fault);
    __syncthreads();
    plan.fault = min(fault, misfit);
    if (plan.fault != no_fault) return plan;
    if constexpr (longest_first) deal_longest_first(plan.items, plan.items.count(), plan.memory, turn);
    plan.start = start_of_cta(a, plan);
    return plan;
}

__device__ __forceinline__ void plan(const Arguments& a, Locals& locals) { locals.plan = make_plan(a); }

__device__ __forceinline__ void write(const Arguments& a, Locals& locals) { write_schedule(a, locals.plan); }
