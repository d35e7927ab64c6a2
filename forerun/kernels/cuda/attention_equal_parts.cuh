// The items of a batch of attention that are cut by the request alone.
#pragma once

struct EqualParts {
    Arguments a;
    Lines lines;
    int items, all_slots, all_counters;
    __device__ __forceinline__ int count() const { return items; }
    __device__ __forceinline__ int slots() const { return all_slots; }
    __device__ __forceinline__ int counters() const { return all_counters; }
    __device__ __forceinline__ Wide total() const { return a.kv_heads() * lines.memory.extra[lines.tiles()]; }
    __device__ __forceinline__ Wide second() const { return lines.second_in(lines.memory.extra); }
    __device__ __forceinline__ int on_first_line() const {
        return a.kv_heads() * lines.memory.first_items[lines.first_tile(lines.on_first_line)];
    }
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
        const Wide x = border_of(thread_of<Launch>(), total(), second());
        const Task task = lines.find(lines.memory.extra, x, within);
        const Tile tile = lines.tile(task);
        const int parts = parts_of(task);
        const int part = last_within(0, parts, within, [&](int i) { return cost_before(tile, i, parts); });
        const Wide start = x - within;
        return {
            lines.before(lines.memory.first_items, task) + part, start + cost_before(tile, part, parts),
            start + cost_before(tile, part + 1, parts)};
    }
    template <class F> __device__ __forceinline__ void for_each(const Stride& stride, F f) const {
#pragma unroll 1
        for (int number = stride.first; number < items; number += stride.step) {
            int part;
            const Task task = lines.find(lines.memory.first_items, number, part);
            const Tile tile = lines.tile(task);
            const int parts = parts_of(task);
            Piece piece = {task.owner, task.lane, task.number, tile, begin_of(tile, part, parts),
                           begin_of(tile, part + 1, parts), -1, -1};
            if (parts > 1) {
                piece.slot = lines.before(lines.memory.first_slots, task) + part;
                piece.counter = lines.before(lines.memory.first_counters, task);
            }
            f(number, piece);
        }
    }
    // The same, but only what they cost; a thread has a tile.
    template <class F> __device__ __forceinline__ void for_each_cost(F f) const {
        const Array<int>& first_items = lines.memory.first_items;
#pragma unroll 1
        for (int index = thread_of<Launch>(); index < lines.tiles(); index += Launch::threads) {
            const int r = lines.memory.owners[index], first = lines.first_tile(r), stop = lines.first_tile(r + 1);
            const Tile tile = lines.tile({r, 0, index - first, index, r});
            const int parts = first_items[index + 1] - first_items[index];
            const int items_a_lane = first_items[stop] - first_items[first];
            const int number = (a.kv_heads() - 1) * first_items[first] + first_items[index];
            int begin = 0;
#pragma unroll 1
            for (int part = 0; part < parts; ++part) {
                const int end = begin_of(tile, part + 1, parts);
                const Wide cost = cost_of(tile, end - begin);
                begin = end;
#pragma unroll 1
                for (int lane = 0; lane < a.kv_heads(); ++lane) f(number + lane * items_a_lane + part, cost);
            }
        }
    }
    __device__ __forceinline__ void write_counters() const {
        const Stride stride = threads_of_grid();
#pragma unroll 1
        for (int i = stride.first; i < lines.tasks(); i += stride.step) {
            const Task task = lines.task_in_turn(i);
            if (parts_of(task) == 1) continue;
            const int counter = lines.before(lines.memory.first_counters, task);
            a.counters[2 * counter] = lines.before(lines.memory.first_slots, task);
            a.counters[2 * counter + 1] = parts_of(task);
        }
    }
};

__device__ __forceinline__ void cut_items(const Arguments& a, const Lines& lines, EqualParts& items, int&, int& turn) {
    const Memory& memory = lines.memory;
    const int tiles = lines.tiles();
    Wide sums[3] = {};  // costs, items; slots and counters
#pragma unroll 1
    for (int first = 0; first < tiles; first += Launch::threads) {
        const int index = first + thread_of<Launch>();
        Wide before[3] = {}, total[3];
        if (index < tiles) {
            const int r = memory.owners[index];
            const Tile tile = lines.tile({r, 0, index - lines.first_tile(r), index, r});
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
    items = {a, lines, heads * static_cast<int>(sums[1]), heads * static_cast<int>(sums[2] & 0xFFFFFFFF),
            heads * static_cast<int>(sums[2] >> 32)};
}
