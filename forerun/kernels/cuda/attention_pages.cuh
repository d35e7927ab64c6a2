// The pages of a batch of attention: is each that a request needs in the cache?
#pragma once

// Pages that a thread loads, and looks at later.
constexpr int vectors_ahead = Launch::threads <= 512 ? 7 : 4;
struct Pages {
    int listed;
    uint4 ahead[vectors_ahead];
};
__device__ __forceinline__ int vector_at(int first, int i) { return first + i * Launch::threads + thread_of<Launch>(); }
__device__ __forceinline__ void load_vectors(const Arguments& a, int first, Pages& pages) {
#pragma unroll
    for (int i = 0; i < vectors_ahead; ++i) {
        const int vector = vector_at(first, i);
        pages.ahead[i] = load16_once(a.pages + 4 * vector, vector < pages.listed / 4);
    }
}
__device__ __forceinline__ unsigned greatest_of(const Pages& pages) {
    unsigned found = 0;
#pragma unroll
    for (int i = 0; i < vectors_ahead; ++i) {
        const uint4& v = pages.ahead[i];
        found = max(found, max(max(v.x, v.y), max(v.z, v.w)));
    }
    return found;
}

// Pages are looked at whoever they belong to. Only if one is not in the cache somebody asks whether its request needs
// it: then each of the thread's pages is looked at again.
__device__ __forceinline__ void check_page(const Arguments& a, int count, int at, Fault* fault) {
    if (static_cast<unsigned>(load_global(a.pages + at)) < static_cast<unsigned>(a.cache_pages())) return;
    const int r = last_within(0, count, at, [&](int i) { return load_global(a.page_pointers + i); });
    note(fault, at - load_global(a.page_pointers + r) < pages_of(a, load_global(a.kv_lengths + r)), fault_of(BAD_PAGE, r));
}
__device__ __forceinline__ void check_pages(
    const Arguments& a, int count, Pages& pages, Fault* fault) {
    constexpr int stride = vectors_ahead * Launch::threads;
    const int vectors = pages.listed / 4, rest = 4 * vectors + thread_of<Launch>();
    unsigned greatest = greatest_of(pages);
#pragma unroll 1
    for (int first = stride; first < vectors; first += stride) {
        load_vectors(a, first, pages);
        greatest = max(greatest, greatest_of(pages));
    }
    if (rest < pages.listed) greatest = max(greatest, static_cast<unsigned>(load_global(a.pages + rest)));
    if (greatest < static_cast<unsigned>(a.cache_pages())) return;
#pragma unroll 1
    for (int first = 4 * thread_of<Launch>(); first < pages.listed; first += 4 * Launch::threads) {
#pragma unroll 1
        for (int at = first; at < min(first + 4, pages.listed); ++at) check_page(a, count, at, fault);
    }
    if (rest < pages.listed) check_page(a, count, rest, fault);
}
