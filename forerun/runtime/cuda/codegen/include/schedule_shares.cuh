// The items of a batch that are cut where the share of a CTA ends, or not at all.
//
// Who includes this has `ctas`, `most_items`, and `Lines`: where the tasks of a batch lie on the line of all work. It has
// their number (`tasks`), the length of the line (`total`), where on it the second one of `two_lines` begins (`second`), the
// task at a place (`at`), of a number (`task`) and in a turn
// of writing (`task_in_turn`), and of a task its `number` and its `tile`. `Arguments` have `cuts` and `partials`.
//
// This and attention_equal_parts.cuh have the same functions: `for_each` item, the item in which the share of the
// thread's CTA begins (`at_border`), and counts.
#pragma once

constexpr int half_of_ctas = ctas < 2 ? 1 : ctas / 2;

// Where the share of a CTA begins on the line of all work: equal shares, or half of them on each of two lines.
__device__ __forceinline__ Wide border_of(int cta, Wide total, Wide second) {
    if constexpr (!two_lines) return cta * total / ctas;
    const int on_second = cta - half_of_ctas;
    return on_second < 0 ? cta * second / half_of_ctas : second + on_second * (total - second) / half_of_ctas;
}

// Cuts where the share of a CTA ends; without cuts, all tasks are whole.
struct Cut {
    int task, block, set;  // the set of a cut: which of the tasks that are cut, in their order
};
__device__ __forceinline__ Cut* cuts_in_shared() {
    __shared__ Cut cuts[ctas];
    return cuts;
}

// The border in front of the share of the thread's CTA: its task, where that begins on the line, and how far it is.
struct Border {
    int number;  // of the task
    Tile tile;
    Wide start, within;
};

struct Shares {
    Arguments a;
    Lines lines;
    Border border;
    int cuts, sets;
    __device__ __forceinline__ int tasks() const { return lines.tasks(); }
    __device__ __forceinline__ int count() const { return tasks() + cuts; }
    __device__ __forceinline__ int slots() const { return cuts + sets; }
    __device__ __forceinline__ int counters() const { return sets; }
    __device__ __forceinline__ Wide total() const { return lines.total(); }
    __device__ __forceinline__ Wide second() const { return lines.second(); }
    __device__ __forceinline__ bool fit() const {
        return static_cast<Wide>(tasks()) + cuts <= most_items && slots() <= a.partials();
    }
    // Cuts of tasks before that one.
    __device__ __forceinline__ int cuts_before(int task) const {
        const Cut* all = cuts_in_shared();
        return last_within(-1, cuts, task - 1, [&](int i) { return all[i].task; }) + 1;
    }
    // Items of the first line, of two.
    __device__ __forceinline__ int on_first_line() const {
        const int task = lines.tasks_on_first_line();
        return task + cuts_before(task);
    }
    __device__ __forceinline__ bool is_cut(int number, int task) const {
        return number < cuts && cuts_in_shared()[number].task == task;
    }
    __device__ __forceinline__ At at_border() const {
        const Cut* all = cuts_in_shared();
        const Tile& tile = border.tile;
        int before = cuts_before(border.number);
        Wide begin = 0, end = cost_of(tile, tile.blocks);
#pragma unroll 1
        for (; is_cut(before, border.number); ++before) {
            const Wide place = cost_of(tile, all[before].block);
            if (place > border.within) {
                end = place;
                break;
            }
            begin = place;
        }
        return {border.number + before, border.start + begin, border.start + end};
    }
    // A thread has a task, and a cut.
    template <class F> __device__ __forceinline__ void for_each(const Stride& stride, F f) const {
        const Cut* all = cuts_in_shared();
#pragma unroll 1
        for (int i = stride.first; i < tasks(); i += stride.step) {
            const Task task = lines.task_in_turn(i);
            const int number = lines.number(task), before = cuts_before(number);
            const Tile tile = lines.tile(task);
            Piece piece = {task.owner, task.lane, task.number, tile, 0, tile.blocks, -1, -1};
            if (is_cut(before, number)) {
                piece.end = all[before].block;
                piece.slot = before + all[before].set;
                piece.counter = all[before].set;
            }
            f(number + before, piece);
        }
        // From the last thread on, who has the fewest tasks.
        const int cut = stride.step - 1 - stride.first;
        if (cut >= cuts) return;
        const int number = all[cut].task;
        const Task task = lines.task(number);
        const Tile tile = lines.tile(task);
        const int end = is_cut(cut + 1, number) ? all[cut + 1].block : tile.blocks;
        const int slot = cut + all[cut].set + 1;
        f(number + cut + 1, Piece{task.owner, task.lane, task.number, tile, all[cut].block, end, slot, all[cut].set});
    }
    // The same, but only what they cost.
    template <class F> __device__ __forceinline__ void for_each_cost(F f) const {
        for_each(threads_of_cta(), [&](int number, const Piece& piece) {
            f(number, cost_of(piece.tile, piece.end - piece.begin));
        });
    }
    __device__ __forceinline__ void write_counters() const {
        const Stride stride = threads_of_grid();
        const int cut = stride.step - 1 - stride.first;
        if (cut >= cuts) return;
        const Cut mine = cuts_in_shared()[cut];
        if (cut > 0 && cuts_in_shared()[cut - 1].task == mine.task) return;
        int stop = cut + 1;
#pragma unroll 1
        while (is_cut(stop, mine.task)) ++stop;
        a.counters[2 * mine.set] = cut + mine.set;
        a.counters[2 * mine.set + 1] = stop - cut + 1;
    }
};

__device__ __forceinline__ Shares whole_tasks(const Arguments& a, const Lines& lines) {
    Shares items = {a, lines, {}, 0, 0};
    const int cta = thread_of<Launch>();
    if (cta == 0 || cta >= ctas || items.tasks() == 0) return items;
    Border& border = items.border;
    const Wide place = border_of(cta, items.total(), items.second());
    if (two_lines && place == items.total()) return items;
    const Task task = lines.at(place, border.within);
    border.number = lines.number(task);
    border.tile = lines.tile(task);
    border.start = place - border.within;
    return items;
}

// Each thread has a border between shares, and looks for the nearest place between blocks; of equal cuts one counts.
__device__ __forceinline__ Shares cut_into_shares(const Arguments& a, const Lines& lines, int& turn) {
    __shared__ Cut borders[ctas];
    Shares items = whole_tasks(a, lines);
    const int thread = thread_of<Launch>();
    if (items.tasks() == 0) return items;
    Cut mine = {-1, 0, 0};
    if (thread > 0 && thread < ctas && (!two_lines || items.border.tile.blocks > 0)) {
        const Tile& tile = items.border.tile;
        const Wide inside = items.border.within - tile.fixed + tile.per_block / 2;
        const Wide block = inside > 0 ? quotient(inside, tile.per_block) : 0;
        mine = {items.border.number, block < tile.blocks ? static_cast<int>(block) : 0, 0};
    }
    if (thread < ctas) borders[thread] = mine;
    __syncthreads();
    bool is_first = mine.block > 0, is_new = is_first;
    if (is_first) {
        const Cut other = borders[thread - 1];
        const bool follows = other.block > 0 && other.task == mine.task;
        is_first = !follows;
        is_new = !follows || other.block != mine.block;
    }
    int before[] = {is_new + (is_first << 16)}, total[1];
    scan<Launch>(before, total, turn);
    items.cuts = total[0] & 0xFFFF;
    items.sets = total[0] >> 16;
    mine.set = (before[0] >> 16) + is_first - 1;
    if (is_new) cuts_in_shared()[before[0] & 0xFFFF] = mine;
    __syncthreads();
    return items;
}

// What does not fit is not cut; nor is anything, if the worst batch would not fit by the rule that is asked for.
__device__ __forceinline__ void cut_items(
    const Arguments& a, const Lines& lines, Shares& items, int& status, int& turn) {
    items = a.cuts() == 0 ? cut_into_shares(a, lines, turn) : whole_tasks(a, lines);
    const bool fit = items.fit();
    if (!fit) items.cuts = items.sets = 0;
    if (!fit || a.cuts() < -1) status = UNSPLIT;
}
