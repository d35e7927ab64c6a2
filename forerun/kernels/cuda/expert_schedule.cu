// The schedule of a batch of rows of experts: what forerun.schedules.make_schedule makes for ExpertGemv, bit by bit.
//
// All groups of rows cost the same, so a place on the line of all work says by division which group it lies in; one prefix
// sum over the experts says whose that is. The rest is that of all families: schedule_shares.cuh, schedule_writes.cuh.

#include "expert_groups.cuh"
#include "schedule_words.cuh"

constexpr int experts = Dims::R - 1, ctas = Dims::B - 1, most_items = Dims::I;
constexpr int axis_block = 16;  // outputs between which a group's products may be cut
constexpr bool longest_first = false;
static_assert(ctas >= 1 && ctas <= Launch::threads, "each border between the shares of CTAs has a thread");
static_assert(Launch::shared_bytes >= 4 * (experts + 1), "there is room for where the groups of each expert begin");

// A group of rows of an expert; it has one tile.
struct Task {
    int owner, lane, number, index;
};

struct Lines {
    Arguments a;
    int groups;
    static __device__ __forceinline__ int& first_group(int expert) { return Array<int>{0}[expert]; }
    __device__ __forceinline__ int tasks() const { return groups; }
    __device__ __forceinline__ Tile tile() const {
        return {group_rows_of(a.columns()), a.outputs(), (a.outputs() - 1) / axis_block + 1, a.fixed(), a.per_block()};
    }
    __device__ __forceinline__ Tile tile(const Task&) const { return tile(); }
    __device__ __forceinline__ Wide cost() const { return cost_of(tile(), tile().blocks); }
    __device__ __forceinline__ Wide total() const { return groups * cost(); }
    __device__ __forceinline__ int number(const Task& task) const { return task.index; }
    __device__ __forceinline__ Task task(int number) const {
        const int expert = last_within(0, experts, number, [&](int i) { return first_group(i); });
        return {expert, number - first_group(expert), 0, number};
    }
    __device__ __forceinline__ Task task_in_turn(int turn) const { return task(turn); }
    __device__ __forceinline__ Task at(Wide place, Wide& within) const {
        const Wide number = quotient(place, cost());
        within = place - number * cost();
        return task(static_cast<int>(number));
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

// Checks the pointers, and counts the groups of rows before each expert, and all of them.
__device__ __forceinline__ Wide count_groups(const Arguments& a, Fault* fault, int& turn) {
    Wide groups = 0;
#pragma unroll 1
    for (int first = 0; first < experts; first += Launch::threads) {
        const int expert = first + thread_of<Launch>();
        Wide before[1] = {}, total[1];
        if (expert < experts) {
            const int begin = load_global(a.row_pointers + expert), end = load_global(a.row_pointers + expert + 1);
            note(fault, end < begin || (expert == 0 && begin != 0), fault_of(BAD_POINTERS, expert));
            note(fault, expert == experts - 1 && end > a.rows(), fault_of(TOO_MANY_ROWS, nowhere));
            const Wide rows = static_cast<Wide>(end) - begin;
            if (rows > 0) before[0] = static_cast<unsigned>(rows - 1) / static_cast<unsigned>(group_rows_of(a.columns())) + 1;
        }
        scan<Launch>(before, total, turn);
        if (expert < experts) Lines::first_group(expert) = static_cast<int>(groups + before[0]);
        groups += total[0];
    }
    if (thread_of<Launch>() == 0) Lines::first_group(experts) = static_cast<int>(groups);
    __syncthreads();
    return groups;
}

__device__ __forceinline__ void plan(const Arguments& a, Locals& locals) {
    __shared__ Fault fault;
    if (thread_of<Launch>() == 0) fault = no_fault;
    __syncthreads();
    int turn = 0;
    const Wide groups = count_groups(a, &fault, turn);
    const Lines lines = {a, static_cast<int>(groups)};
    locals.plan = {fault, OK, 0, {a, lines}};
    Plan& plan = locals.plan;
    if (plan.fault != no_fault) return;
    if (groups == 0) plan.fault = fault_of(NO_REQUESTS, nowhere);
    else if (groups > quotient(1LL << 40, lines.cost())) plan.fault = fault_of(TOO_MUCH_WORK, nowhere);
    else if (groups > most_items) plan.fault = fault_of(TOO_MANY_ITEMS, nowhere);
    if (plan.fault != no_fault) return;
    cut_items(a, lines, plan.items, plan.status, turn);
    plan.start = start_of_cta(a, plan);
}

__device__ __forceinline__ void write(const Arguments& a, Locals& locals) { write_schedule(a, locals.plan); }
