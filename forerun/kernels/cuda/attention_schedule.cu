// The schedule of a batch of attention: what forerun.schedules.make_schedule makes, bit by bit, by one CTA.
//
// The cost of each tile is on a line, one tile of a request behind the other; the KV heads of a request repeat its part
// of the line. So one prefix sum over the tiles of requests is enough, and whoever has a place on the line finds the
// task by binary search. Nothing depends on the capacity but the sizes of arrays.

#include "attention_tasks.cuh"

static_assert(ctas >= 1 && ctas <= Launch::threads, "each border between the shares of CTAs has a thread");
static_assert(ctas <= 1024, "a CTA's number has ten bits");

#include "attention_items.cuh"
#include "longest_first.cuh"

struct Locals {};

__device__ __forceinline__ void write_status(const Arguments& a, int status, int where) {
    if (thread_of<Launch>() != 0) return;
    a.status[0] = status;
    a.status[1] = where;
}
__device__ __forceinline__ void write_counts(const Arguments& a, int items, int slots, int counters) {
    if (thread_of<Launch>() != 0) return;
    a.counts[0] = items;
    a.counts[1] = slots;
    a.counts[2] = counters;
}

__device__ __forceinline__ void write_nothing(const Arguments& a, int status, int where) {
    write_status(a, status, where);
    write_counts(a, 0, 0, 0);
    for (int i = thread_of<Launch>(); i <= ctas; i += Launch::threads) a.pointers[i] = 0;
}

// Where the items of the thread's CTA begin, if CTAs take equal shares of the line: the item at the border goes to the
// CTA in whose share its middle lies.
template <class Items> __device__ __forceinline__ int start_of_share(const Items& items) {
    const At at = items.at_border();
    return at.item + ((at.begin + at.end) * ctas < 2 * thread_of<Launch>() * items.total());
}

// Four words at a multiple of 16 bytes.
__device__ __forceinline__ void store_words(int* words, int a, int b, int c, int d) {
    *reinterpret_cast<uint4*>(words) = {
        static_cast<unsigned>(a), static_cast<unsigned>(b), static_cast<unsigned>(c), static_cast<unsigned>(d)};
}

template <class Items>
__device__ __forceinline__ void write_items(const Arguments& a, const Items& items, const Order& order) {
    items.for_each([&](int number, const Piece& piece) {
        int* words = a.items + 8LL * order.place(number);
        const int end = piece.end == piece.tile.blocks ? piece.tile.length : piece.end * kv_block;
        store_words(words, piece.request, piece.lane, piece.number, piece.tile.size);
        store_words(words + 4, piece.begin * kv_block, end, piece.slot, piece.counter);
    });
}

template <class Items>
__device__ __forceinline__ void write_schedule(
    const Arguments& a, const Items& items, const Memory& memory, int status, int& turn) {
    const int thread = thread_of<Launch>(), count = items.count();
    write_status(a, status, nowhere);
    write_counts(a, count, items.slots(), items.counters());
    Order order = {a.policy(), count, memory.places, memory.starts};
    if (a.policy() == LONGEST_FIRST) deal_longest_first(items, count, memory, turn);
    if (thread < ctas) {
        int start = 0;
        if (thread > 0 && count > 0) start = a.policy() == PREFIX_SUMS ? start_of_share(items) : order.start(thread);
        a.pointers[thread] = start;
    }
    if (thread == 0) a.pointers[ctas] = count;
    write_items(a, items, order);
    items.write_counters(a);
}

// The schedule of a batch whose requests and pages are right; it says what does not fit.
__device__ __forceinline__ Fault cut_and_deal(const Arguments& a, const Lines& lines, int& turn) {
    if (lines.length > (1LL << 40) / a.kv_heads()) return fault_of(TOO_MUCH_WORK, nowhere);
    if (lines.tiles() > lines.memory.tiles) return fault_of(TOO_MANY_ITEMS, nowhere);
    const bool cut_by_request = a.cuts() > 0;
    if (cut_by_request && has_room(a)) {
        write_schedule(a, cut_into_equal_parts(a, lines, turn), lines.memory, OK, turn);
        return no_fault;
    }
    Shares items = a.cuts() == 0 ? cut_into_shares(a, lines, turn) : whole_tasks(a, lines);
    const bool fit = items.fit();
    if (!fit) items.cuts = items.sets = 0;
    write_schedule(a, items, lines.memory, fit && !cut_by_request ? OK : UNSPLIT, turn);
    return no_fault;
}

__device__ __forceinline__ Fault make_schedule(const Arguments& a) {
    __shared__ Fault fault;
    const int count = load_global(a.requests);
    if (count < 1) return fault_of(NO_REQUESTS, nowhere);
    if (count > most_requests) return fault_of(TOO_MANY_REQUESTS, nowhere);
    const Memory memory = memory_of(a);
    if (memory.bytes > Launch::shared_bytes) return fault_of(TOO_MANY_ITEMS, nowhere);
    if (thread_of<Launch>() == 0) fault = no_fault;
    __syncthreads();
    Pages pages = {load_global(a.page_pointers + count)};
    check_requests(a, count, &fault, memory.queries, memory.lengths);
    __syncthreads();
    if (fault != no_fault) return fault;
    load_vectors(a, 0, pages);
    int turn = 0;
    const Lines lines = lay_out(a, count, memory, turn);
    check_pages(a, count, pages, &fault, memory.lengths);
    __syncthreads();
    if (fault != no_fault) return fault;
    return cut_and_deal(a, lines, turn);
}

__device__ __forceinline__ void schedule(const Arguments& a, Locals&) {
    if (cta_of<Launch>() != 0) return;
    const Fault fault = make_schedule(a);
    if (fault != no_fault) write_nothing(a, status_of(fault), static_cast<int>(fault));
}
