// The schedule of a batch whose tasks are alike within an owner: what forerun.schedules.make_schedule makes of it.
//
// Who includes this has two functions: `check_owner` notes what is wrong with an owner, and says how many tasks it has and
// how long their axis is; `tile_of` says of a length what a task costs. The task of number i of an owner is its lane i, and
// has one tile. There are constants, too: `owners`, `ctas`, `most_items`, `axis_block`. `Arguments` have `cuts`, `policy`
// and `partials`, and the arrays of the schedule. A batch without tasks gets the status NO_REQUESTS.
//
// Each CTA of the grid makes the whole schedule in shared memory, and writes a part of it; `plan` writes nothing.
#pragma once

#include "schedule_words.cuh"

constexpr bool longest_first = false, two_lines = false;
constexpr Wide most_work = 1LL << 40;
static_assert(ctas >= 1 && ctas <= Launch::threads, "each border between the shares of CTAs has a thread");

// What is known of each owner, in dynamic shared memory: the sums of costs and of tasks before it, and its length.
constexpr Array<Wide> line = {0};
constexpr Array<int> first_tasks = {8 * (owners + 1)}, lengths = {12 * (owners + 1)};
static_assert(Launch::shared_bytes >= 16 * (owners + 1), "there is room for what is known of each owner");

struct Task {
    int owner, lane, number, index;
};

// Where the tasks lie: those of an owner behind those of the owner before.
struct Lines {
    Arguments a;
    Wide count, length;
    __device__ __forceinline__ int tasks() const { return static_cast<int>(count); }
    __device__ __forceinline__ Wide total() const { return length; }
    __device__ __forceinline__ Wide second() const { return length; }
    __device__ __forceinline__ int tasks_on_first_line() const { return tasks(); }
    __device__ __forceinline__ int number(const Task& task) const { return task.index; }
    __device__ __forceinline__ Tile tile(const Task& task) const { return tile_of(a, lengths[task.owner]); }
    __device__ __forceinline__ Task task(int number) const {
        const int owner = last_within(0, owners, number, [](int i) { return first_tasks[i]; });
        return {owner, number - first_tasks[owner], 0, number};
    }
    __device__ __forceinline__ Task task_in_turn(int turn) const { return task(turn); }
    __device__ __forceinline__ Task at(Wide place, Wide& within) const {
        const int owner = last_within(0, owners, place, [](int i) { return line[i]; });
        const Tile tile = tile_of(a, lengths[owner]);
        const Wide cost = cost_of(tile, tile.blocks), past = place - line[owner];
        const int lane = static_cast<int>(quotient(past, cost));
        within = past - lane * cost;
        return {owner, lane, 0, first_tasks[owner] + lane};
    }
};

#include "schedule_shares.cuh"

// What is known before anything is written: where the items of the thread's CTA of the schedule begin, too.
struct Plan {
    Fault fault;
    int status, start;
    Shares items;
};
struct Locals {
    Plan plan;
};

#include "schedule_writes.cuh"

// The costs of the tasks of an owner; where they are too many, any number that is too large.
__device__ __forceinline__ Wide cost_of_tasks(const Tile& tile, int tasks) {
    const Wide cost = cost_of(tile, tile.blocks);
    return tasks > quotient(most_work, cost) ? 2 * most_work : tasks * cost;
}

__device__ __forceinline__ Lines lay_out(const Arguments& a, Fault* fault, int& turn) {
    Lines lines = {a, 0, 0};
#pragma unroll 1
    for (int first = 0; first < owners; first += Launch::threads) {
        const int number = first + thread_of<Launch>();
        Owner owner = {};
        Wide before[2] = {}, total[2];
        if (number < owners) {
            owner = check_owner(a, number, fault);
            before[0] = owner.tasks;
            if (owner.tasks > 0) before[1] = cost_of_tasks(tile_of(a, owner.length), owner.tasks);
        }
        scan<Launch>(before, total, turn);
        if (number < owners) {
            first_tasks[number] = static_cast<int>(lines.count + before[0]);
            line[number] = lines.length + before[1];
            lengths[number] = owner.length;
        }
        lines.count += total[0];
        lines.length = min(lines.length + total[1], 1LL << 50);
    }
    if (thread_of<Launch>() == 0) {
        first_tasks[owners] = static_cast<int>(lines.count);
        line[owners] = lines.length;
    }
    __syncthreads();
    return lines;
}

__device__ __forceinline__ void plan(const Arguments& a, Locals& locals) {
    __shared__ Fault fault;
    if (thread_of<Launch>() == 0) fault = no_fault;
    __syncthreads();
    int turn = 0;
    const Lines lines = lay_out(a, &fault, turn);
    locals.plan = {fault, OK, 0, {a, lines}};
    Plan& plan = locals.plan;
    if (plan.fault != no_fault) return;
    if (lines.count == 0) plan.fault = fault_of(NO_REQUESTS, nowhere);
    else if (lines.length > most_work) plan.fault = fault_of(TOO_MUCH_WORK, nowhere);
    else if (lines.count > most_items) plan.fault = fault_of(TOO_MANY_ITEMS, nowhere);
    if (plan.fault != no_fault) return;
    cut_items(a, lines, plan.items, plan.status, turn);
    plan.start = start_of_cta(a, plan);
}

__device__ __forceinline__ void write(const Arguments& a, Locals& locals) { write_schedule(a, locals.plan); }
