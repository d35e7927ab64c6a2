// Longest first, as forerun.schedules.policies.longest_first has it: items in classes of about the same cost, the dearest
// class first, and each item of a class to the least loaded CTA.
//
// Items of a class count as equal. So nobody has to deal them one by one: level after level each CTA that is below it
// gets one, and what is left goes to those with the least loads. A class takes the time of a few barriers.
#pragma once

static_assert(!longest_first || most_items < 1 << 16, "places of items have 16 bits");

// The class of a cost, the greatest one of the dearest.
__device__ __forceinline__ int class_of(Wide cost) {
    const int octave = 63 - __clzll(cost);
    const int part = static_cast<int>(octave >= 2 ? cost >> (octave - 2) : cost << (2 - octave)) & 3;
    return 4 * octave + part;
}

// Of a number from 0 to 31 for each lane: the lanes that have it, and the lanes that have the number of this lane.
struct Peers {
    unsigned of_mine, of_lane;
};
__device__ __forceinline__ Peers peers_of(int number, bool counts) {
    const int lane = thread_of<Launch>() % 32;
    Peers peers = {~0u, ~0u};
    peers.of_mine = peers.of_lane = __ballot_sync(~0u, counts);
#pragma unroll
    for (int bit = 0; bit < 5; ++bit) {
        const unsigned set = __ballot_sync(~0u, number >> bit & 1);
        peers.of_mine &= number >> bit & 1 ? set : ~set;
        peers.of_lane &= lane >> bit & 1 ? set : ~set;
    }
    return peers;
}
__device__ __forceinline__ unsigned lanes_before() { return (1u << thread_of<Launch>() % 32) - 1; }

// Sums of numbers in shared memory, each of those before it; a sum more at the end.
template <class T> __device__ __forceinline__ void sums_in_shared(const Array<T>& numbers, int count, int& turn) {
    T total_before = 0;
#pragma unroll 1
    for (int first = 0; first < count; first += Launch::threads) {
        const int i = first + thread_of<Launch>();
        T before[] = {i < count ? numbers[i] : 0}, total[1];
        scan<Launch>(before, total, turn);
        if (i < count) numbers[i] = total_before + before[0];
        total_before += total[0];
    }
    if (thread_of<Launch>() == 0) numbers[count] = total_before;
    __syncthreads();
}

// Sorts the costs of items by their classes: `sums` has what is before each, `costs` where each item lies, and its class.
struct Sorted {
    int segments;
    Array<int> histogram;
    __device__ __forceinline__ int start(int kind) const { return histogram[kind * segments]; }
};
template <class F>
__device__ __forceinline__ void for_each_by_lane(const Memory& memory, int count, int dearest, F f) {
#pragma unroll 1
    for (int first = 0; first < count; first += Launch::threads) {
        const int item = first + thread_of<Launch>();
        const Wide cost = item < count ? memory.costs[item] : 1;
        const int kind = min(dearest - class_of(cost), classes - 1);
        f(item, cost, kind, peers_of(kind, item < count), item / 32);
    }
}
template <class Items>
__device__ __forceinline__ Sorted sort_by_class(const Items& items, int count, const Memory& memory, int& turn) {
    __shared__ int dearest;
    const int thread = thread_of<Launch>(), segments = ceil_div(count, 32);
    if (thread == 0) dearest = 0;
    __syncthreads();
    int mine = 0;
    items.for_each_cost([&](int number, Wide cost) {
        memory.costs[number] = cost;
        mine = max(mine, class_of(cost));
    });
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) mine = max(mine, __shfl_xor_sync(~0u, mine, distance));
    if (thread % 32 == 0) atomicMax(&dearest, mine);
    __syncthreads();
    for_each_by_lane(memory, count, dearest, [&](int, Wide, int, const Peers& peers, int segment) {
        if (segment < segments) memory.histogram[thread % 32 * segments + segment] = __popc(peers.of_lane);
    });
    __syncthreads();
    sums_in_shared(memory.histogram, classes * segments, turn);
    for_each_by_lane(memory, count, dearest, [&](int item, Wide cost, int kind, const Peers& peers, int segment) {
        if (item >= count) return;
        const int place = memory.histogram[kind * segments + segment] + __popc(peers.of_mine & lanes_before());
        memory.sums[place] = cost;
        memory.costs[item] = static_cast<Wide>(kind) << 32 | place;
    });
    __syncthreads();
    sums_in_shared(memory.sums, count, turn);
    return {segments, memory.histogram};
}

__device__ __forceinline__ int sum_of_warp(int x) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(~0u, x, distance);
    return x;
}
template <class T, class F> __device__ __forceinline__ T fold_of_ctas(const T* numbers, T start, F f) {
#pragma unroll 1
    for (int i = thread_of<Launch>() % 32; i < ctas; i += 32) start = f(start, numbers[i]);
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) start = f(start, __shfl_xor_sync(~0u, start, distance));
    return start;
}

// The greatest level up to which all CTAs may get items, and how many they get then: as many as there are, or fewer.
struct Level {
    int whole, given;
};
__device__ __forceinline__ Level level_of(const int* wholes, int count) {
    auto given_up_to = [&](int level) {
        int given = 0;
#pragma unroll 1
        for (int i = thread_of<Launch>() % 32; i < ctas; i += 32) given += max(0, level - wholes[i]);
        return sum_of_warp(given);
    };
    const int sum = fold_of_ctas(wholes, 0, [](int x, int y) { return x + y; });
    const int greatest = fold_of_ctas(wholes, 0, [](int x, int y) { return max(x, y); });
    int high = min(count, (count + sum) / ctas), low = greatest <= high ? high : 0;
#pragma unroll 1
    while (low < high) {
        const int middle = low + (high - low + 1) / 2;
        if (given_up_to(middle) <= count) low = middle;
        else high = middle - 1;
    }
    return {low, given_up_to(low)};
}

// The CTAs before the thread's one in the order of parts, of those that count.
__device__ __forceinline__ int rank_of_cta(int part, bool counts) {
    constexpr int warps = ceil_div(ctas, 32);
    __shared__ int histogram[warps][32];
    const int lane = thread_of<Launch>() % 32, warp = thread_of<Launch>() / 32;
    const Peers peers = peers_of(part, counts);
    if (warp < warps) histogram[warp][lane] = __popc(peers.of_lane);
    __syncthreads();
    int all = 0, before = 0;
#pragma unroll 1
    for (int w = 0; w < warps; ++w) {
        const int there = histogram[w][lane];
        all += there;
        before += w < warp ? there : 0;
    }
    int through = all;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
        const int other = __shfl_up_sync(~0u, through, distance);
        if (lane >= distance) through += other;
    }
    return __shfl_sync(~0u, through - all + before, part) + __popc(peers.of_mine & lanes_before());
}

template <class Items>
__device__ __forceinline__ void deal_longest_first(const Items& items, int count, const Memory& memory, int& turn) {
    __shared__ Wide loads[ctas];
    __shared__ int wholes[ctas];
    const Sorted sorted = sort_by_class(items, count, memory, turn);
    const int thread = thread_of<Launch>();
    const bool is_cta = thread < ctas;
    Wide load = 0;
    int given = 0;
#pragma unroll 1
    for (int kind = 0; kind < classes; ++kind) {
        const int start = sorted.start(kind), size = sorted.start(kind + 1) - start;
        if (size == 0) continue;
        const Array<Wide>& sums = memory.sums;
        const Wide mean = quotient(sums[start + size] - sums[start] + size - 1, static_cast<Wide>(size));
        if (is_cta) loads[thread] = load;
        __syncthreads();
        int units = 0;  // of the load: a 32nd of an item
        const Wide least = fold_of_ctas(loads, 1LL << 62, [](Wide x, Wide y) { return min(x, y); });
        if (is_cta) units = static_cast<int>(min(quotient(32 * (load - least), mean), 32 * (size + 1LL)));
        const int whole = units / 32;
        if (is_cta) wholes[thread] = whole;
        __syncthreads();
        const Level level = level_of(wholes, size);
        const bool may_get = is_cta && whole <= level.whole;
        const int rank = rank_of_cta(units % 32, may_get);
        const int own = may_get ? level.whole - whole + (rank < size - level.given) : 0;
        int before[] = {own}, total[1];
        scan<Launch>(before, total, turn);
        if (!is_cta) continue;
        const int first = start + before[0];
        memory.ranges[kind * ctas + thread] = static_cast<unsigned>(first) | static_cast<unsigned>(given) << 16;
        load += sums[first + own] - sums[first];
        given += own;
    }
    int before[] = {given}, total[1];
    scan<Launch>(before, total, turn);
    if (is_cta) memory.starts[thread] = before[0];
    __syncthreads();
}

// Where an item lies in memory.
__device__ __forceinline__ int place_of_item(const Memory& memory, int item) {
    const int place = static_cast<int>(memory.costs[item] & 0xFFFF);
    const int row = static_cast<int>(memory.costs[item] >> 32) * ctas;
    const Array<unsigned>& ranges = memory.ranges;
    const int cta = last_within(0, ctas, place, [&](int i) { return static_cast<int>(ranges[row + i] & 0xFFFF); });
    const unsigned range = ranges[row + cta];
    return memory.starts[cta] + static_cast<int>(range >> 16) + place - static_cast<int>(range & 0xFFFF);
}
