// The batch of persistent attention from the arrays of one or two groups of requests.

struct Locals {};

constexpr int total = ctas_of<Launch> * Launch::threads;

struct Group {
    const int *queries, *pointers, *pages, *lengths;
    int count, most_pages;
    bool has_rows;
};

__device__ __forceinline__ int length_of(const Arguments& a, const Group& group, int request) {
    const int length = load_global(group.lengths + request);
    if (!a.last_pages()) return length;
    const int pages = load_global(group.pointers + request + 1) - load_global(group.pointers + request);
    return pages > 0 ? (pages - 1) * a.page_size() + length : 0;
}

__device__ __forceinline__ int row_of(const Group& group, int request) {
    return group.has_rows ? load_global(group.queries + request) : request;
}

// As many pages of a group as are listed, and lie in its array.
__device__ __forceinline__ int pages_of(const Group& group) {
    const int listed = load_global(group.pointers + group.count);
    return listed < 0 ? 0 : listed < group.most_pages ? listed : group.most_pages;
}

// The number of requests up to the last one with a KV. All lanes of a warp call it.
__device__ __forceinline__ int filled(const Arguments& a, const Group& first, const Group& second, int lane) {
#pragma unroll 1
    for (int begin = (Dims::R - 1) / 32 * 32; begin >= 0; begin -= 32) {
        const int request = begin + lane, other = request - first.count;
        bool has = false;
        if (request < Dims::R) has = (other < 0 ? length_of(a, first, request) : length_of(a, second, other)) > 0;
        const unsigned found = __ballot_sync(~0u, has);
        if (found) return begin + 32 - __clz(found);
    }
    return 0;
}

__device__ __forceinline__ void join(const Arguments& a, Locals&) {
    const Group first{a.queries_a, a.pointers_a, a.pages_a, a.lengths_a, a.count_a(), Dims::PA, a.has_rows_a() != 0};
    const Group second{a.queries_b, a.pointers_b, a.pages_b, a.lengths_b, a.count_b(), Dims::PB, a.has_rows_b() != 0};
    const int thread = cta_of<Launch>() * Launch::threads + thread_of<Launch>();
    if (cta_of<Launch>() == 0 && thread < 32) {
        const bool fits = second.count == 0 || row_of(first, first.count) == a.first_row_b();
        const int requests = filled(a, first, second, thread);
        if (thread == 0) *a.requests = fits ? requests : -1;
    }
    const int listed = load_global(first.pointers + first.count);
#pragma unroll 1
    for (int i = thread; i <= Dims::R; i += total) {
        const int other = i - first.count;
        // Where the first group ends the second begins: its own first elements are 0.
        a.query_pointers[i] = other <= 0 ? row_of(first, i) : a.first_row_b() + row_of(second, other);
        const int pointer = load_global(other <= 0 ? first.pointers + i : second.pointers + other);
        a.page_pointers[i] = other <= 0 ? pointer : listed + pointer;
        if (i < Dims::R) a.kv_lengths[i] = other < 0 ? length_of(a, first, i) : length_of(a, second, other);
    }
    const int pages_a = least(pages_of(first), Dims::P);
    const int pages_b = second.count ? least(pages_of(second), Dims::P - pages_a) : 0;
#pragma unroll 1
    for (int i = thread; i < Dims::P; i += total) {
        int page = -1;
        if (i < pages_a) page = a.page_step() * load_global(first.pages + i);
        else if (i - pages_a < pages_b) page = a.page_step() * load_global(second.pages + (i - pages_a));
        a.pages[i] = page;
    }
}
