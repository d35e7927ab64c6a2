// The item of greatest cost goes first, and always to the least loaded CTA; of equals, to the first one.
//
// Item by item that would be serial. But the CTAs in the order of their loads take the next items one each, as long as
// none of those that have just got one would be less loaded than the next CTA. So a round gives items to many CTAs.
#pragma once

// Sorts numbers in shared memory, by all threads. Every exchange puts the smaller one first, so what a power of two would
// have behind the last one need not be there (bitonic sort, its first steps mirrored).
__device__ __forceinline__ void sort_in_shared(Wide* numbers, int count) {
    const int all = power_of_two_from(count);
#pragma unroll 1
    for (int size = 2; size <= all; size *= 2) {
#pragma unroll 1
        for (int stride = size / 2; stride > 0; stride /= 2) {
#pragma unroll 1
            for (int i = thread_of<Launch>(); i < all / 2; i += Launch::threads) {
                const int within = i & (stride - 1), low = 2 * i - within;
                const int high = 2 * stride == size ? low + size - 1 - 2 * within : low + stride;
                if (high < count && numbers[low] > numbers[high]) {
                    const Wide greater = numbers[low];
                    numbers[low] = numbers[high];
                    numbers[high] = greater;
                }
            }
            __syncthreads();
        }
    }
}

// The least of the numbers of the threads before.
__device__ __forceinline__ Wide least_before(Wide x) {
    constexpr int warps = warps_of<Launch>;
    __shared__ Wide of_warps[warps];
    const int lane = thread_of<Launch>() % 32, warp = thread_of<Launch>() / 32;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
        const Wide other = __shfl_up_sync(~0u, x, distance);
        if (lane >= distance) x = min(x, other);
    }
    if (lane == 31) of_warps[warp] = x;
    const Wide neighbour = __shfl_up_sync(~0u, x, 1);
    __syncthreads();
    Wide found = lane > 0 ? neighbour : 0x7FFFFFFFFFFFFFFFLL;
#pragma unroll 1
    for (int i = 0; i < warp; ++i) found = min(found, of_warps[i]);
    return found;
}

template <class Items>
__device__ __forceinline__ void deal_longest_first(const Items& items, int count, const Memory& memory, int& turn) {
    constexpr int index_bits = 21;
    constexpr Wide never = 0x7FFFFFFFFFFFFFFFLL, dearest = 1LL << 41;
    __shared__ Wide loads[ctas];  // and the CTA in the lowest ten bits
    __shared__ int given[ctas], next;
    const int thread = thread_of<Launch>();
#pragma unroll 1
    for (int i = thread; i < ctas; i += Launch::threads) {
        loads[i] = i;
        given[i] = 0;
    }
    if (thread == 0) next = 0;
    __syncthreads();
    items.for_each([&](int number, const Piece& piece) {
        const Wide cost = cost_of(piece.tile, piece.end - piece.begin);
        memory.keys[number] = (dearest - cost) << index_bits | number;
    });
    __syncthreads();
    sort_in_shared(memory.keys, count);
#pragma unroll 1
    for (int first = 0; first < count;) {
        const int item = first + thread;
        const bool may_take = thread < ctas && item < count;
        const Wide load = may_take ? loads[thread] : never, key = may_take ? memory.keys[item] : 0;
        const Wide after = may_take ? load + ((dearest - (key >> index_bits)) << 10) : never;
        const Wide bound = least_before(after);
        if (may_take && load < bound) {
            const int cta = static_cast<int>(load & 1023);
            memory.places[key & ((1 << index_bits) - 1)] = cta | given[cta]++ << 10;
            loads[thread] = after;
            atomicMax(&next, item + 1);
        }
        __syncthreads();
        first = next;
        sort_in_shared(loads, ctas);
    }
    int total_before = 0;
#pragma unroll 1
    for (int first = 0; first < ctas; first += Launch::threads) {
        const int cta = first + thread;
        int before[] = {cta < ctas ? given[cta] : 0}, total[1];
        scan<Launch>(before, total, turn);
        if (cta < ctas) memory.starts[cta] = total_before + before[0];
        total_before += total[0];
    }
    __syncthreads();
}
