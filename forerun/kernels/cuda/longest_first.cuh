// Longest first, as forerun.schedules.policies.longest_first has it: items in classes of about the same cost, the dearest
// class first, and each item of a class to the least loaded CTA.
//
// Items of a class count as equal. So nobody has to deal them one by one: level after level each CTA that is below it
// gets one, and what is left goes to those with the least loads. A class takes the time of a few barriers.
#pragma once

static_assert(!longest_first || most_items < 1 << 16, "places of items have 16 bits");

// Of two lines, each has half of the classes, and of the CTAs.
constexpr int classes_of_line = two_lines ? classes / 2 : classes, ctas_of_line = two_lines ? half_of_ctas : ctas;

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
__device__ __forceinline__ void for_each_by_lane(const Memory& memory, int count, int on_first_line, const int* dearest, F f) {
#pragma unroll 1
    for (int first = 0; first < count; first += Launch::threads) {
        const int item = first + thread_of<Launch>();
        const Wide cost = item < count ? memory.costs[item] : 1;
        const int line = two_lines && item >= on_first_line;
        const int kind = line * classes_of_line + min(dearest[line] - class_of(cost), classes_of_line - 1);
        f(item, cost, kind, peers_of(kind, item < count), item / 32);
    }
}
template <class Items>
__device__ __forceinline__ Sorted sort_by_class(const Items& items, int count, const Memory& memory, int& turn) {
    __shared__ int dearest[2];
    const int thread = thread_of<Launch>(), segments = ceil_div(count, 32);
    const int on_first_line = two_lines ? items.on_first_line() : count;
    if (thread < 2) dearest[thread] = 0;
    __syncthreads();
    int of_first = 0, of_second = 0;
    items.for_each_cost([&](int number, Wide cost) {
        memory.costs[number] = cost;
        int& mine = two_lines && number >= on_first_line ? of_second : of_first;
        mine = max(mine, class_of(cost));
    });
    of_first = __reduce_max_sync(~0u, of_first);
    if (two_lines) of_second = __reduce_max_sync(~0u, of_second);
    if (thread % 32 == 0) {
        atomicMax(&dearest[0], of_first);
        if (two_lines) atomicMax(&dearest[1], of_second);
    }
    __syncthreads();
    for_each_by_lane(memory, count, on_first_line, dearest, [&](int, Wide, int, const Peers& peers, int segment) {
        if (segment < segments) memory.histogram[thread % 32 * segments + segment] = __popc(peers.of_lane);
    });
    __syncthreads();
    sums_in_shared(memory.histogram, classes * segments, turn);
    for_each_by_lane(memory, count, on_first_line, dearest, [&](int item, Wide cost, int kind, const Peers& peers, int segment) {
        if (item >= count) return;
        const int place = memory.histogram[kind * segments + segment] + __popc(peers.of_mine & lanes_before());
        memory.sums[place] = cost;
        memory.costs[item] = static_cast<Wide>(kind) << 32 | place;
    });
    __syncthreads();
    sums_in_shared(memory.sums, count, turn);
    return {segments, memory.histogram};
}

// CTAs have places in another order than their numbers: those that get one item more are neighbours by place, and
// should not be so by number.
__device__ constexpr int stride_of_places() {
    int stride = ctas_of_line * 21 / 34 + 1;
    for (;; ++stride) {
        int a = stride, b = ctas_of_line;
        while (b != 0) {
            const int rest = a % b;
            a = b;
            b = rest;
        }
        if (a == 1) return stride;
    }
}
__device__ __forceinline__ int cta_at(int place) {
    const int before = place / ctas_of_line * ctas_of_line;
    return before + (place - before) * stride_of_places() % ctas_of_line;
}

// A thread has a CTA; the warps that have some do the following, the others wait.
constexpr int warps_with_ctas = ceil_div(ctas, 32);

__device__ __forceinline__ int sums_of_lanes(int x) {
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
        const int other = __shfl_up_sync(~0u, x, distance);
        if (thread_of<Launch>() % 32 >= distance) x += other;
    }
    return x;
}

// A number for each lane, of all warps with CTAs.
struct Table {
    int of_warp[warps_with_ctas][32];
    __device__ __forceinline__ void put(int x) { of_warp[thread_of<Launch>() / 32][thread_of<Launch>() % 32] = x; }
    // The sum of the lane's numbers, and of those of the warps before.
    __device__ __forceinline__ int sum(int& before) const {
        const int lane = thread_of<Launch>() % 32, warp = thread_of<Launch>() / 32;
        int all = before = 0;
#pragma unroll
        for (int w = 0; w < warps_with_ctas; ++w) {
            const int there = of_warp[w][lane];
            all += there;
            before += w < warp ? there : 0;
        }
        return all;
    }
};

struct Tables {
    Wide loads[32 * warps_with_ctas];
    int wholes[ctas], sums[warps_with_ctas], greatest[warps_with_ctas], given[warps_with_ctas];
    Table whole, part;
};

__device__ __forceinline__ Wide least_of(const Wide* loads) {
    const int lane = thread_of<Launch>() % 32;
    Wide least = loads[lane];
#pragma unroll
    for (int w = 1; w < warps_with_ctas; ++w) least = min(least, loads[32 * w + lane]);
    const unsigned high = static_cast<unsigned>(least >> 32), least_high = __reduce_min_sync(~0u, high);
    const unsigned low = __reduce_min_sync(~0u, high == least_high ? static_cast<unsigned>(least) : ~0u);
    return static_cast<Wide>(least_high) << 32 | low;
}

// The greatest level up to which all CTAs may get items, and how many they get then: as many as there are, or fewer.
struct Level {
    int whole, given;
};
__device__ __forceinline__ Level level_by_bisection(const int* wholes, int first, int low, int high, int count) {
    auto given_up_to = [&](int level) {
        int given = 0;
#pragma unroll 1
        for (int i = thread_of<Launch>() % 32; i < ctas_of_line; i += 32) given += max(0, level - wholes[first + i]);
        return __reduce_add_sync(~0u, given);
    };
#pragma unroll 1
    while (low < high) {
        const int middle = low + (high - low + 1) / 2;
        if (given_up_to(middle) <= count) low = middle;
        else high = middle - 1;
    }
    return {low, given_up_to(low)};
}
__device__ __forceinline__ Level level_of(const Tables& tables, int first, int count) {
    int sum = 0, greatest = 0, before;
#pragma unroll
    for (int w = 0; w < warps_with_ctas; ++w) {
        sum += tables.sums[w];
        greatest = max(greatest, tables.greatest[w]);
    }
    const int high = min(count, (count + sum) / ctas_of_line);
    if (greatest <= high) return {high, ctas_of_line * high - sum};
    if (high > 31) return level_by_bisection(tables.wholes, first, 0, high, count);
    // Lane i has how many CTAs are at i; at i + 1 there is one item more for each of those that are at i or below.
    const int at_most = sums_of_lanes(tables.whole.sum(before)), given = sums_of_lanes(at_most) - at_most;
    const int level = 31 - __clz(__ballot_sync(~0u, given <= count));
    return {level, __shfl_sync(~0u, given, level)};
}

template <class Items>
__device__ __forceinline__ void deal_longest_first(const Items& items, int count, const Memory& memory, int& turn) {
    __shared__ Tables tables;
    const Sorted sorted = sort_by_class(items, count, memory, turn);
    const int thread = thread_of<Launch>(), lane = thread % 32, warp = thread / 32;
    const bool is_cta = thread < ctas, takes_part = warp < warps_with_ctas;
    // A class is dealt to the CTAs of its line.
    const auto first_of = [](int kind) { return kind / classes_of_line * ctas_of_line; };
    Wide load = 0;
    int given = 0;
#pragma unroll 1
    for (int kind = 0; kind < classes; ++kind) {
        const int start = sorted.start(kind), size = sorted.start(kind + 1) - start;
        if (size == 0) continue;
        const bool may_take = is_cta && thread / ctas_of_line == kind / classes_of_line;
        if (takes_part) tables.loads[thread] = may_take ? load : 1LL << 62;
        __syncthreads();
        int whole = 0, part = 0;
        if (takes_part) {
            const Wide cost = memory.sums[start + size] - memory.sums[start];
            const Wide mean = quotient(cost + size - 1, static_cast<Wide>(size)), least = least_of(tables.loads);
            if (may_take) part = static_cast<int>(min(quotient(32 * (load - least), mean), 32 * (size + 1LL)));
            whole = part / 32;
            part %= 32;
            if (is_cta) tables.wholes[thread] = whole;
            tables.whole.put(__popc(peers_of(min(whole, 31), may_take).of_lane));
            tables.sums[warp] = __reduce_add_sync(~0u, whole);
            tables.greatest[warp] = __reduce_max_sync(~0u, whole);
        }
        __syncthreads();
        Level level = {0, 0};
        Peers peers = {0, 0};
        if (takes_part) {
            level = level_of(tables, first_of(kind), size);
            peers = peers_of(part, may_take && whole <= level.whole);
            tables.part.put(__popc(peers.of_lane));
        }
        __syncthreads();
        int own = 0, before = 0;
        if (takes_part) {
            const int all = tables.part.sum(before), through = sums_of_lanes(all) - all + before;
            const int rank = __shfl_sync(~0u, through, part) + __popc(peers.of_mine & lanes_before());
            if (may_take && whole <= level.whole) own = level.whole - whole + (rank < size - level.given);
            before = sums_of_lanes(own);
            if (lane == 31) tables.given[warp] = before;
            before -= own;
        }
        __syncthreads();
        if (!is_cta) continue;
#pragma unroll
        for (int w = 0; w < warps_with_ctas; ++w) before += w < warp ? tables.given[w] : 0;
        const int first = start + before;
        memory.ranges[kind * ctas + thread] = static_cast<unsigned>(first) | static_cast<unsigned>(given) << 16;
        load += memory.sums[first + own] - memory.sums[first];
        given += own;
    }
    if (is_cta) memory.starts[cta_at(thread)] = given;
    __syncthreads();
    int before[] = {is_cta ? memory.starts[thread] : 0}, total[1];
    scan<Launch>(before, total, turn);
    if (is_cta) memory.starts[thread] = before[0];
    __syncthreads();
}

// Where an item lies in memory.
__device__ __forceinline__ int place_of_item(const Memory& memory, int item) {
    const int place = static_cast<int>(memory.costs[item] & 0xFFFF);
    const int row = static_cast<int>(memory.costs[item] >> 32) * ctas;
    const Array<unsigned>& ranges = memory.ranges;
    const int at = last_within(0, ctas, place, [&](int i) { return static_cast<int>(ranges[row + i] & 0xFFFF); });
    const unsigned range = ranges[row + at];
    return memory.starts[cta_at(at)] + static_cast<int>(range >> 16) + place - static_cast<int>(range & 0xFFFF);
}
