// The items of a batch of attention: tasks, whole or cut. Two rules of cuts have the same functions: `for_each` item,
// the item in which the share of the thread's CTA begins (`at_border`), and counts.
#pragma once

enum Policy { PREFIX_SUMS = 0, LONGEST_FIRST = 1, ROUND_ROBIN = 2 };

// Shared memory that lasts, as large as the batch may need.
struct Memory {
    int tiles, bytes, sorted;  // room for tiles of requests; bytes in all; items that are sorted
    int *queries, *lengths, *first_tiles;
    Wide *line, *extra, *keys;
    int *first_items, *first_slots, *first_counters, *places, *starts;
};

__device__ __forceinline__ Memory memory_of(const Arguments& a) {
    Memory memory = {};
    memory.tiles = most_items / a.kv_heads();
    memory.sorted = a.policy() == LONGEST_FIRST ? most_items : 0;
    const bool in_parts = a.cuts() > 0;
    auto take = [&](int count, int size) {
        unsigned char* start = dynamic_shared + memory.bytes;
        memory.bytes += ceil_div(count * size, 8) * 8;
        return static_cast<void*>(start);
    };
    memory.queries = static_cast<int*>(take(most_requests, 4));
    memory.lengths = static_cast<int*>(take(most_requests, 4));
    memory.first_tiles = static_cast<int*>(take(most_requests + 1, 4));
    memory.line = static_cast<Wide*>(take(memory.tiles + 1, 8));
    const int parts = in_parts ? memory.tiles + 1 : 0;
    memory.extra = static_cast<Wide*>(take(parts, 8));
    memory.first_items = static_cast<int*>(take(parts, 4));
    memory.first_slots = static_cast<int*>(take(parts, 4));
    memory.first_counters = static_cast<int*>(take(parts, 4));
    memory.keys = static_cast<Wide*>(take(memory.sorted, 8));
    memory.places = static_cast<int*>(take(memory.sorted, 4));
    memory.starts = static_cast<int*>(take(memory.sorted ? ctas + 1 : 0, 4));
    return memory;
}

// The order of items in memory.
struct Order {
    int policy, count;
    const int *places, *starts;
    __device__ __forceinline__ int start(int cta) const {
        if (policy == LONGEST_FIRST) return starts[cta];
        return cta * (count / ctas) + min(cta, count % ctas);
    }
    __device__ __forceinline__ int place(int item) const {
        if (policy == PREFIX_SUMS) return item;
        if (policy == LONGEST_FIRST) return starts[places[item] & 1023] + (places[item] >> 10);
        return start(item % ctas) + item / ctas;
    }
};

// An item: blocks `begin` to `end` of a task.
struct Piece {
    int request, lane, number;  // of the tile
    Tile tile;
    int begin, end, slot, counter;
};

// A task: `index` is its tile's, of all tiles of requests.
struct Task {
    int request, lane, number, index;
};

// Where the tiles of requests lie: sums of tiles, and of their costs. Costs and items repeat for each KV head.
struct Lines {
    Arguments a;
    Memory memory;
    int requests;
    Wide length;
    __device__ __forceinline__ int first_tile(int r) const { return memory.first_tiles[r]; }
    __device__ __forceinline__ int tiles() const { return first_tile(requests); }
    __device__ __forceinline__ Tile tile(const Task& task) const {
        return tile_of(a, memory.queries[task.request], memory.lengths[task.request], task.number);
    }
    // The task whose part of the sums has a number in it, and how far that is within its part. `sums` has an entry for
    // each tile of a request, and one more.
    template <class T> __device__ __forceinline__ Task find(const T* sums, T number, T& within) const {
        const T heads = a.kv_heads();
        const int r = last_within(0, requests, number, [&](int i) { return heads * sums[first_tile(i)]; });
        const int first = first_tile(r), stop = first_tile(r + 1);
        const T part = sums[stop] - sums[first];
        within = number - heads * sums[first];
        int lane = 0;
#pragma unroll 1
        for (; within >= part; within -= part) ++lane;
        const int index = last_within(first, stop, within, [&](int i) { return sums[i] - sums[first]; });
        within -= sums[index] - sums[first];
        return {r, lane, index - first, index};
    }
    // The sum before a task.
    template <class T> __device__ __forceinline__ T before(const T* sums, const Task& task) const {
        const int first = first_tile(task.request), stop = first_tile(task.request + 1);
        return a.kv_heads() * sums[first] + task.lane * (sums[stop] - sums[first]) + (sums[task.index] - sums[first]);
    }
    // The task of that number.
    __device__ __forceinline__ Task task(int number) const {
        const int heads = a.kv_heads();
        const int r = last_within(0, requests, number, [&](int i) { return heads * first_tile(i); });
        const int first = first_tile(r), tiles = first_tile(r + 1) - first, within = number - heads * first;
        return {r, within / tiles, within % tiles, first + within % tiles};
    }
};

// Which request a tile belongs to.
__device__ __forceinline__ int request_of(const Lines& lines, int index) {
    return last_within(0, lines.requests, index, [&](int i) { return lines.first_tile(i); });
}

// Counts the tiles of requests and puts their costs on the line; what there is no room for is only summed up.
__device__ __forceinline__ Lines lay_out(const Arguments& a, int requests, const Memory& memory, int& turn) {
    const int thread = thread_of<Launch>();
    Lines lines = {a, memory, requests, 0};
    int tiles = 0;
#pragma unroll 1
    for (int first = 0; first < requests; first += Launch::threads) {
        const int r = first + thread;
        int before[] = {r < requests ? tiles_of(a, memory.queries[r]) : 0}, total[1];
        scan<Launch>(before, total, turn);
        if (r < requests) memory.first_tiles[r] = tiles + before[0];
        tiles += total[0];
    }
    if (thread == 0) memory.first_tiles[requests] = tiles;
    __syncthreads();
#pragma unroll 1
    for (int first = 0; first < tiles; first += Launch::threads) {
        const int index = first + thread;
        Wide before[] = {0}, total[1];
        if (index < tiles) {
            const int r = request_of(lines, index);
            const Tile tile = lines.tile({r, 0, index - lines.first_tile(r), index});
            before[0] = cost_of(tile, tile.blocks);
        }
        scan<Launch>(before, total, turn);
        if (index < min(tiles, memory.tiles)) memory.line[index] = lines.length + before[0];
        // A sum that is too large stays so, and does not overflow.
        lines.length = min(lines.length + total[0], 1LL << 50);
    }
    if (thread == 0 && tiles <= memory.tiles) memory.line[tiles] = lines.length;
    __syncthreads();
    return lines;
}

// An item, and where it begins and ends on the line.
struct At {
    int item;
    Wide begin, end;
};

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
    __device__ __forceinline__ int tasks() const { return a.kv_heads() * lines.tiles(); }
    __device__ __forceinline__ int count() const { return tasks() + cuts; }
    __device__ __forceinline__ int slots() const { return cuts + sets; }
    __device__ __forceinline__ int counters() const { return sets; }
    __device__ __forceinline__ Wide total() const { return a.kv_heads() * lines.length; }
    __device__ __forceinline__ bool fit() const {
        return static_cast<Wide>(tasks()) + cuts <= most_items && slots() <= a.partials();
    }
    // Cuts of tasks before that one.
    __device__ __forceinline__ int cuts_before(int task) const {
        const Cut* all = cuts_in_shared();
        return last_within(-1, cuts, task - 1, [&](int i) { return all[i].task; }) + 1;
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
    // A thread has a tile of a request, for all KV heads, and a cut.
    template <class F> __device__ __forceinline__ void for_each(F f) const {
        const Cut* all = cuts_in_shared();
        const int heads = a.kv_heads();
#pragma unroll 1
        for (int index = thread_of<Launch>(); index < lines.tiles(); index += Launch::threads) {
            const int r = request_of(lines, index), first = lines.first_tile(r);
            const int tiles = lines.first_tile(r + 1) - first;
            const Tile tile = lines.tile({r, 0, index - first, index});
            int number = heads * first + index - first, before = cuts_before(number);
#pragma unroll 1
            for (int lane = 0; lane < heads; ++lane, number += tiles) {
#pragma unroll 1
                while (before < cuts && all[before].task < number) ++before;
                Piece piece = {r, lane, index - first, tile, 0, tile.blocks, -1, -1};
                if (is_cut(before, number)) {
                    piece.end = all[before].block;
                    piece.slot = before + all[before].set;
                    piece.counter = all[before].set;
                }
                f(number + before, piece);
            }
        }
        const int cut = thread_of<Launch>();
        if (cut >= cuts) return;
        const int number = all[cut].task;
        const Task task = lines.task(number);
        const Tile tile = lines.tile(task);
        const int end = is_cut(cut + 1, number) ? all[cut + 1].block : tile.blocks;
        const int slot = cut + all[cut].set + 1;
        f(number + cut + 1, Piece{task.request, task.lane, task.number, tile, all[cut].block, end, slot, all[cut].set});
    }
    __device__ __forceinline__ void write_counters(const Arguments& a) const {
        const int cut = thread_of<Launch>();
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
    const Wide place = cta * items.total() / ctas;
    const Task task = lines.find(lines.memory.line, place, border.within);
    const int first = lines.first_tile(task.request), tiles = lines.first_tile(task.request + 1) - first;
    border.number = a.kv_heads() * first + task.lane * tiles + task.number;
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
    if (thread > 0 && thread < ctas) {
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

// Cuts by the request alone.
struct EqualParts {
    Arguments a;
    Lines lines;
    int items, all_slots, all_counters;
    __device__ __forceinline__ int count() const { return items; }
    __device__ __forceinline__ int slots() const { return all_slots; }
    __device__ __forceinline__ int counters() const { return all_counters; }
    __device__ __forceinline__ Wide total() const { return a.kv_heads() * lines.memory.extra[lines.tiles()]; }
    __device__ __forceinline__ int parts_of(const Task& task) const {
        return lines.memory.first_items[task.index + 1] - lines.memory.first_items[task.index];
    }
    static __device__ __forceinline__ int begin_of(const Tile& tile, int part, int parts) {
        return static_cast<int>(quotient(static_cast<Wide>(part) * tile.blocks, parts));
    }
    static __device__ __forceinline__ Wide cost_before(const Tile& tile, int part, int parts) {
        return static_cast<Wide>(part) * tile.fixed + static_cast<Wide>(tile.per_block) * begin_of(tile, part, parts);
    }
    __device__ __forceinline__ At at_border() const {
        Wide within;
        const Wide x = thread_of<Launch>() * total() / ctas;
        const Task task = lines.find(lines.memory.extra, x, within);
        const Tile tile = lines.tile(task);
        const int parts = parts_of(task);
        const int part = last_within(0, parts, within, [&](int i) { return cost_before(tile, i, parts); });
        const Wide start = x - within;
        return {
            lines.before(lines.memory.first_items, task) + part, start + cost_before(tile, part, parts),
            start + cost_before(tile, part + 1, parts)};
    }
    template <class F> __device__ __forceinline__ void for_each(F f) const {
#pragma unroll 1
        for (int number = thread_of<Launch>(); number < items; number += Launch::threads) {
            int part;
            const Task task = lines.find(lines.memory.first_items, number, part);
            const Tile tile = lines.tile(task);
            const int parts = parts_of(task);
            Piece piece = {task.request, task.lane, task.number, tile, begin_of(tile, part, parts),
                           begin_of(tile, part + 1, parts), -1, -1};
            if (parts > 1) {
                piece.slot = lines.before(lines.memory.first_slots, task) + part;
                piece.counter = lines.before(lines.memory.first_counters, task);
            }
            f(number, piece);
        }
    }
    __device__ __forceinline__ void write_counters(const Arguments& a) const {
#pragma unroll 1
        for (int number = thread_of<Launch>(); number < a.kv_heads() * lines.tiles(); number += Launch::threads) {
            const Task task = lines.task(number);
            if (parts_of(task) == 1) continue;
            const int counter = lines.before(lines.memory.first_counters, task);
            a.counters[2 * counter] = lines.before(lines.memory.first_slots, task);
            a.counters[2 * counter + 1] = parts_of(task);
        }
    }
};

// Whether the worst batch within the capacity has room, as forerun.schedules.cuts.Invariant bounds it.
__device__ __forceinline__ bool has_room(const Arguments& a) {
    const Wide heads = a.kv_heads(), requests = min(most_requests, a.rows());
    const Wide tiles = requests + (static_cast<Wide>(a.rows()) * a.group() - requests) / 128;
    const Wide most = heads * most_pages * a.page_size() / a.cuts() + heads * requests;
    return heads * tiles + most <= most_items && most <= a.partials();
}

__device__ __forceinline__ EqualParts cut_into_equal_parts(const Arguments& a, const Lines& lines, int& turn) {
    const Memory& memory = lines.memory;
    const int tiles = lines.tiles();
    Wide sums[3] = {};  // costs, items; slots and counters
#pragma unroll 1
    for (int first = 0; first < tiles; first += Launch::threads) {
        const int index = first + thread_of<Launch>();
        Wide before[3] = {}, total[3];
        if (index < tiles) {
            const int r = request_of(lines, index);
            const Tile tile = lines.tile({r, 0, index - lines.first_tile(r), index});
            const int siblings = lines.first_tile(r + 1) - lines.first_tile(r);
            const unsigned chunks = (tile.length - 1u) / static_cast<unsigned>(a.cuts()) + 1;
            const int parts = min(max(static_cast<int>(chunks / siblings), 1), tile.blocks);
            before[0] = cost_of(tile, tile.blocks) + static_cast<Wide>(parts - 1) * tile.fixed;
            before[1] = parts;
            before[2] = parts > 1 ? parts + (1LL << 32) : 0;
        }
        scan<Launch>(before, total, turn);
        if (index < tiles) {
            memory.extra[index] = sums[0] + before[0];
            memory.first_items[index] = static_cast<int>(sums[1] + before[1]);
            memory.first_slots[index] = static_cast<int>(sums[2] + before[2]);
            memory.first_counters[index] = static_cast<int>((sums[2] + before[2]) >> 32);
        }
        for (int k = 0; k < 3; ++k) sums[k] += total[k];
    }
    if (thread_of<Launch>() == 0) {
        memory.extra[tiles] = sums[0];
        memory.first_items[tiles] = static_cast<int>(sums[1]);
        memory.first_slots[tiles] = static_cast<int>(sums[2]);
        memory.first_counters[tiles] = static_cast<int>(sums[2] >> 32);
    }
    __syncthreads();
    const int heads = a.kv_heads();
    return {a, lines, heads * static_cast<int>(sums[1]), heads * static_cast<int>(sums[2] & 0xFFFFFFFF),
            heads * static_cast<int>(sums[2] >> 32)};
}
