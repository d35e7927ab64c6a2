// Where the work of a batch of attention lies: the tiles of requests, one behind the other, and the sums of their costs.
#pragma once

// Arrays that last, as large as the batch may need.
struct Memory {
    int tiles, bytes;  // room for tiles of requests; bytes in all
    Array<int> requests, queries, lengths, first_tiles, owners;
    Array<Wide> line, extra;
    Array<int> first_items, first_slots, first_counters;
    Array<Wide> costs, sums;
    Array<int> histogram, starts;
    Array<unsigned> ranges;
    template <class T> __device__ __forceinline__ void take(Array<T>& array, int count) {
        array.offset = bytes;
        bytes += ceil_div(count * static_cast<int>(sizeof(T)), 8) * 8;
    }
};

__device__ __forceinline__ Memory memory_of(const Arguments& a) {
    Memory memory = {};
    memory.tiles = most_items / a.kv_heads();
    if constexpr (two_lines) memory.take(memory.requests, most_requests);
    memory.take(memory.queries, most_requests);
    memory.take(memory.lengths, most_requests);
    memory.take(memory.first_tiles, most_requests + 1);
    memory.take(memory.owners, memory.tiles);
    memory.take(memory.line, memory.tiles + 1);
    if constexpr (by_request) {
        memory.take(memory.extra, memory.tiles + 1);
        memory.take(memory.first_items, memory.tiles + 1);
        memory.take(memory.first_slots, memory.tiles + 1);
        memory.take(memory.first_counters, memory.tiles + 1);
    }
    if constexpr (longest_first) {
        memory.take(memory.costs, most_items);
        memory.take(memory.sums, most_items + 1);
        memory.take(memory.histogram, classes * ceil_div(most_items, 32) + 1);
        memory.take(memory.ranges, classes * ctas);
        memory.take(memory.starts, ctas);
    }
    return memory;
}

// A task: `index` is its tile's, of all tiles of requests; `place` is its request's.
struct Task {
    int place, lane, number, index, owner;
};

// Where the tiles of requests lie: sums of tiles, and of their costs. Costs and items repeat for each KV head. Requests have
// places: on two lines those with large tiles come first, and the others from the end on, so that all know their place at
// once.
struct Lines {
    Arguments a;
    Memory memory;
    int requests, on_first_line;
    Wide length;
    __device__ __forceinline__ int owner_at(int place) const {
        if constexpr (two_lines) return memory.requests[place];
        return place;
    }
    // Where the second line begins in sums that have an entry for each tile of a request.
    template <class T> __device__ __forceinline__ Wide second_in(const Array<T>& sums) const {
        return static_cast<Wide>(a.kv_heads()) * sums[first_tile(on_first_line)];
    }
    __device__ __forceinline__ Wide second() const { return second_in(memory.line); }
    __device__ __forceinline__ int tasks_on_first_line() const { return a.kv_heads() * first_tile(on_first_line); }
    __device__ __forceinline__ int first_tile(int r) const { return memory.first_tiles[r]; }
    __device__ __forceinline__ int tiles() const { return first_tile(requests); }
    __device__ __forceinline__ Tile tile(const Task& task) const {
        return tile_of(a, memory.queries[task.place], memory.lengths[task.place], task.number);
    }
    // The task whose part of the sums has a number in it, and how far that is within its part. `sums` has an entry for
    // each tile of a request, and one more.
    template <class T> __device__ __forceinline__ Task find(const Array<T>& sums, T number, T& within) const {
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
        return {r, lane, index - first, index, owner_at(r)};
    }
    // The sum before a task.
    template <class T> __device__ __forceinline__ T before(const Array<T>& sums, const Task& task) const {
        const int first = first_tile(task.place), stop = first_tile(task.place + 1);
        return a.kv_heads() * sums[first] + task.lane * (sums[stop] - sums[first]) + (sums[task.index] - sums[first]);
    }
    // The task at a place on the line of all work, and how far the place is within it.
    __device__ __forceinline__ Task at(Wide place, Wide& within) const { return find(memory.line, place, within); }
    __device__ __forceinline__ Wide total() const { return a.kv_heads() * length; }
    // The number of a task.
    __device__ __forceinline__ int number(const Task& task) const {
        const int first = first_tile(task.place), tiles = first_tile(task.place + 1) - first;
        return a.kv_heads() * first + task.lane * tiles + task.number;
    }
    // All tasks, by tiles: those of a tile lie behind each other for all KV heads.
    __device__ __forceinline__ int tasks() const { return a.kv_heads() * tiles(); }
    __device__ __forceinline__ Task task_in_turn(int turn) const {
        const unsigned heads = a.kv_heads(), index = static_cast<unsigned>(turn) / heads;
        const int r = memory.owners[index];
        const int lane = static_cast<int>(turn - index * heads), number = static_cast<int>(index) - first_tile(r);
        return {r, lane, number, static_cast<int>(index), owner_at(r)};
    }
    // The task of that number.
    __device__ __forceinline__ Task task(int number) const {
        const int heads = a.kv_heads();
        const int r = last_within(0, requests, number, [&](int i) { return heads * first_tile(i); });
        const int first = first_tile(r), tiles = first_tile(r + 1) - first, within = number - heads * first;
        return {r, within / tiles, within % tiles, first + within % tiles, owner_at(r)};
    }
};

// The costs of all tiles on the line, a thread a tile; returns their sum. A sum that is too large stays so, and does not
// overflow.
__device__ __forceinline__ Wide costs_of_tiles(const Lines& lines, int count, int& turn) {
    const Memory& memory = lines.memory;
    Wide length = 0;
#pragma unroll 1
    for (int first = 0; first < count; first += Launch::threads) {
        const int index = first + thread_of<Launch>();
        Wide before[] = {0}, total[1];
        int r = 0;
        if (index < count) {
            r = last_within(0, lines.requests, index, [&](int i) { return lines.first_tile(i); });
            const Tile tile = lines.tile({r, 0, index - lines.first_tile(r), index, r});
            before[0] = cost_of(tile, tile.blocks);
        }
        scan<Launch>(before, total, turn);
        if (index < min(count, memory.tiles)) {
            memory.owners[index] = r;
            memory.line[index] = length + before[0];
        }
        length = min(length + total[0], 1LL << 50);
    }
    return length;
}

// Gives requests their places, those with large tiles first; returns how many of these there are.
__device__ __forceinline__ int sort_by_line(
    const Arguments& a, int requests, const Request& own, const Memory& memory, Fault* fault, int& turn) {
    int large = 0;
#pragma unroll 1
    for (int first = 0; first < requests; first += Launch::threads) {
        const int r = first + thread_of<Launch>();
        Request request = {};
        if (r < requests) {
            request = first == 0 ? own : load_request(a, r);
            check_request(a, request, r, requests, fault);
        }
        const bool is_large = request.rows() * a.group() > 16;
        int before[] = {is_large}, total[1];
        scan<Launch>(before, total, turn);
        const int place = is_large ? large + before[0] : requests - 1 - (r - large - before[0]);
        if (r < requests) {
            memory.requests[place] = r;
            memory.queries[place] = static_cast<int>(request.rows());
            memory.lengths[place] = request.length;
        }
        large += total[0];
    }
    __syncthreads();
    return large;
}

// Checks requests, counts their tiles and puts the costs of those on the line; what there is no room for is only summed
// up. Where a request has several tiles, the threads take tiles instead of requests for the costs. `own` is the request that
// has the thread's number.
__device__ __forceinline__ Lines lay_out(
    const Arguments& a, int requests, const Request& own, const Memory& memory, Fault* fault, Fault& found, int& turn) {
    const int thread = thread_of<Launch>();
    Lines lines = {a, memory, requests, 0, 0};
    if constexpr (two_lines) lines.on_first_line = sort_by_line(a, requests, own, memory, fault, turn);
    Wide tiles = 0, length = 0;  // of requests with several tiles, 2^32 each
#pragma unroll 1
    for (int first = 0; first < requests; first += Launch::threads) {
        const int r = first + thread;
        Wide before[2] = {}, total[2];
        bool has_tiles = false;
        if (r < requests) {
            if constexpr (!two_lines) {
                const Request request = first == 0 ? own : load_request(a, r);
                check_request(a, request, r, requests, fault);
                memory.queries[r] = static_cast<int>(request.rows());
                memory.lengths[r] = request.length;
            }
            const int queries = memory.queries[r];
            const Wide count = tiles_of(a, queries);
            const Tile tile = tile_of(a, queries, memory.lengths[r], 0);
            has_tiles = count > 0;
            before[0] = count + (count > 1 ? 1LL << 32 : 0);
            before[1] = count == 1 ? cost_of(tile, tile.blocks) : 0;
        }
        scan<Launch>(before, total, turn);
        const int index = static_cast<int>(tiles + before[0]);
        if (r < requests) memory.first_tiles[r] = index;
        if (has_tiles && static_cast<unsigned>(index) < static_cast<unsigned>(memory.tiles)) {
            memory.owners[index] = r;
            memory.line[index] = length + before[1];
        }
        tiles += total[0];
        length = min(length + total[1], 1LL << 50);
    }
    found = *fault;
    if (found != no_fault) return lines;
    const int count = static_cast<int>(tiles & 0xFFFFFFFF);
    if (thread == 0) memory.first_tiles[requests] = count;
    if (tiles >> 32 != 0) {
        __syncthreads();
        length = costs_of_tiles(lines, count, turn);
    }
    if (thread == 0 && count <= memory.tiles) memory.line[count] = length;
    lines.length = length;
    __syncthreads();
    return lines;
}
