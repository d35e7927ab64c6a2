// The items of a CTA, with what a runner has to know of their requests. They are looked up ahead, since that takes three
// loads one after the other.
#pragma once

using Element = Types::k_cache;
static_assert(sizeof(Element) == 2, "keys and values are bf16 or f16");
static_assert(has_whole_warps<Launch>, "positions belong to warps");
static_assert(Dims::HD % 16 == 0 && Dims::HD <= 128, "a head has up to 128 elements, in sixteens");
static_assert(128 % Dims::HD == 0, "the lanes of a warp share rows evenly");
static_assert(Dims::H % Dims::KV == 0, "query heads share KV heads evenly");
static_assert(Dims::M >= 128, "a slot has room for the largest tile");

// Of four warpgroups the first one works off small tiles (decode), the next two compute large ones (prefill), and the last
// one loads those. Where the tensor cores take no products of warpgroups, the first one does everything.
constexpr bool has_roles = Launch::threads == 4 * 128;
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
constexpr bool has_tiles = has_roles && Dims::HD % 64 == 0;
#else
constexpr bool has_tiles = false;
#endif
constexpr int warps = has_roles ? 4 : warps_of<Launch>;  // of small tiles, or of all
constexpr int group = Dims::H / Dims::KV, page_size = Dims::PS;
constexpr int step = 16, rows_a_warp = 8;  // positions, and packed rows, that a warp takes together

__device__ __forceinline__ int lane_in_warp() { return thread_of<Launch>() % 32; }
__device__ __forceinline__ int warp_in_cta() { return thread_of<Launch>() / 32; }
// All warps of small tiles.
__device__ __forceinline__ void meet() {
    if constexpr (has_roles) named_barrier<1, 32 * warps>();
    else __syncthreads();
}

// Items of the schedule. The last one comes first: if it is the beginning of a task whose rest the next CTA begins with,
// both splits are through early, and at the end nobody has anything to put together.
struct Range {
    int first, count;
    __device__ __forceinline__ int item(int number) const { return first + (number == 0 ? count : number) - 1; }
};

// The CTAs of the schedule, from a first one on, are dealt to those of the grid.
template <int first_share, int shares> __device__ __forceinline__ Range range_of_cta(const Arguments& a) {
    constexpr int ctas = ctas_of<Launch>;
    const int* pointers = a.pointers + first_share;
    const int first = load_global(pointers + start_of_share<shares, ctas>(cta_of<Launch>()));
    return {first, load_global(pointers + start_of_share<shares, ctas>(cta_of<Launch>() + 1)) - first};
}
__device__ __forceinline__ Range range_of_cta(const Arguments& a) { return range_of_cta<0, Dims::B - 1>(a); }

struct Work {
    int begin, end, slot, counter;
    int kv_head, first_packed, rows, first_page;
    int first_row, past;  // of the queries; positions before the first of them
    int padding[2];
};

__device__ __forceinline__ Work looked_up(const Arguments& a, int item) {
    const uint4 head = load16(a.items + 8LL * item), tail = load16(a.items + 8LL * item + 4);
    const int request = static_cast<int>(head.x), tile = static_cast<int>(head.z), size = static_cast<int>(head.w);
    const int first_row = load_global(a.query_pointers + request);
    const int queries = load_global(a.query_pointers + request + 1) - first_row;
    const int past = load_global(a.kv_lengths + request) - queries;
    const int first_packed = tile * size;
    return {static_cast<int>(tail.x), static_cast<int>(tail.y), static_cast<int>(tail.z), static_cast<int>(tail.w),
            static_cast<int>(head.y), first_packed, least(size, queries * group - first_packed),
            load_global(a.page_pointers + request), first_row, past, {}};
}

// They lie in two halves: when one half is through, the next items take it.
constexpr int works = has_tiles ? 16 : 32, half = works / 2;
__device__ __forceinline__ Work* works_in_shared() {
    __shared__ __align__(16) Work all[works];
    return all;
}
__device__ __forceinline__ const Work& work_of(int number) { return works_in_shared()[number % works]; }
__device__ __forceinline__ void begin_works(const Arguments& a, const Range& range) {
    const int number = thread_of<Launch>();
    if (number < least(works, range.count)) works_in_shared()[number] = looked_up(a, range.item(number));
}
// Called by all when everyone is through with the items before that one.
__device__ __forceinline__ void refill_works(const Arguments& a, int number, const Range& range) {
    if (number == 0 || number % half || warp_in_cta() != warps - 1) return;
    const int next = number + half + lane_in_warp();
    if (lane_in_warp() < half && next < range.count) works_in_shared()[next % works] = looked_up(a, range.item(next));
}

// A warp has 8 rows of an item in each pass over its positions. For up to 8 rows the steps are shared out: a warp takes
// every n-th one, which it has loaded itself. For more, each of 2, 4, ... warps beside each other has other rows, and takes
// the steps of all of them: then they read each other's rings.
constexpr int rows_a_pass = rows_a_warp * warps;
__device__ __forceinline__ int passes_of(const Work& work) { return has_tiles ? 1 : ceil_div(work.rows, rows_a_pass); }
__device__ __forceinline__ int first_row_of(int pass) { return pass * rows_a_pass; }
__device__ __forceinline__ int rows_of(const Work& work, int pass) {
    return least(work.rows - first_row_of(pass), rows_a_pass);
}
__device__ __forceinline__ int sharing_warps(const Work& work, int pass) {
    const int rows = rows_of(work, pass);
    int found = 1;
#pragma unroll
    for (int n = 1; n < warps; n *= 2) found += rows > n * rows_a_warp ? n : 0;
    return found;
}

// The positions that the rows of a pass see, and how many steps a warp has there: as many for each warp, so that all are at
// the same stage of their rings, and one at least, so that a ring is never more items ahead than it has stages.
struct Span {
    int begin, end, steps;
};
__device__ __forceinline__ Span span_of(const Work& work, int pass) {
    const int rows = least((pass + 1) * rows_a_pass, work.rows);
    const int end = least(work.end, work.past + (work.first_packed + rows - 1) / group + 1);
    const int all = ceil_div(greatest(end - work.begin, 0), step);
    return {work.begin, end, greatest(1, ceil_div(all, warps))};
}
__device__ __forceinline__ int position_of(const Span& span, int i, int warp) {
    return span.begin + (i * warps + warp) * step;
}
