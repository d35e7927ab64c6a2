// Attention over a paged KV cache, for a ragged batch: each CTA works off its items of a schedule (forerun.schedules).
//
// An item is a span of positions for the packed query rows of a tile. If these are at most 8, the warps of a CTA take every
// n-th step of 16 positions, each with sums of its own; what they have found is put together at the end of the item. Each
// warp has a ring in shared memory, which is filled over the ends of items, so the next item is on its way while the
// present one ends. Scores are rescaled when a greater one comes (arXiv:1805.02867), in powers of two.
//
// Who finds that all splits of a task have arrived puts them together, in the order of positions; nobody waits.

#include "arrivals.cuh"
#include "bulk_copy.cuh"
#include "copy_groups.cuh"
#include "item_records.cuh"
#include "named_barrier.cuh"
#include "tensor_core.cuh"
#include "attention_work.cuh"

struct Locals {};

// What the warps have found. Weighted values lie in the stage of the warp's ring that is free between two items; four
// elements of a row lie together, at a place that depends on the row, against conflicts of banks.
using Weighted = float[rows_a_warp][Dims::HD];
__device__ __forceinline__ int weighted_place(int row, int element) {
    return element ^ 8 * (row / 2) % least(32, Dims::HD);
}
struct Results {
    float greatest[warps][rows_a_warp], sum[warps][rows_a_warp];
};

// The rings: a stage has 16 rows of K and 16 of V. Where a piece of 16 bytes of a row lies depends on the row, so that
// those of eight rows lie in different banks: bits of addresses are exchanged, so rings begin at multiples of 256. Beside
// large tiles, whose rings need the room more, two stages are enough to read what there is time for.
constexpr int row_bytes = Dims::HD * 2, matrix_bytes = step * row_bytes, stage_bytes = 2 * matrix_bytes;
constexpr int chunks = row_bytes / 16, rows_a_copy = 32 / chunks, swizzle = least(8, chunks) - 1;
constexpr int ring_alignment = 256, results_bytes = static_cast<int>(sizeof(Results));
constexpr int room_for_rings = Launch::shared_bytes - results_bytes - ring_alignment;
constexpr int stages = has_tiles ? 2 : least(8, room_for_rings / (warps * stage_bytes));
constexpr int rings_bytes = warps * stages * stage_bytes;
static_assert(stages >= 2, "each warp needs two stages of a ring in shared memory");
static_assert(sizeof(Weighted) <= stage_bytes, "a stage has room for what a warp has found");

__device__ __forceinline__ Results& results() { return *reinterpret_cast<Results*>(dynamic_shared); }
__device__ __forceinline__ unsigned char* stage(int number, int warp) {
    const int gap = static_cast<int>(-(shared_address(dynamic_shared) + results_bytes) % ring_alignment);
    return dynamic_shared + results_bytes + gap + (warp * stages + number) * stage_bytes;
}
__device__ __forceinline__ Weighted& weighted_of(int warp, int free_stage) {
    return *reinterpret_cast<Weighted*>(stage(free_stage, warp));
}

// Waits until the next stage of the ring is there.
__device__ __forceinline__ void await_stage() {
    await_copy_groups<stages - 2>();
    __syncwarp();
}

#include "attention_loader.cuh"
#include "attention_step.cuh"

// One row of what several have found: the greatest score of all, and what everyone's share counts. Where there is no
// score yet, everything is 0.
__device__ __forceinline__ float share_of(float greatest, float of_all) {
    return power_of_two(greatest - (of_all == -infinity() ? 0.0f : of_all));
}

struct Row {
    float greatest, sum, weighted[4];
    // Adds what another one has found, whose greatest score does not exceed this one's.
    __device__ __forceinline__ void add(float other_greatest, float other_sum, const float4& other) {
        const float share = share_of(other_greatest, greatest);
        sum = fmaf(share, other_sum, sum);
        weighted[0] = fmaf(share, other.x, weighted[0]);
        weighted[1] = fmaf(share, other.y, weighted[1]);
        weighted[2] = fmaf(share, other.z, weighted[2]);
        weighted[3] = fmaf(share, other.w, weighted[3]);
    }
};

// The lane's four elements of a row, if a row has so many.
constexpr int lanes = Dims::HD / 4;
__device__ __forceinline__ bool has_elements() { return lane_in_warp() < lanes; }
__device__ __forceinline__ int element() { return 4 * (lane_in_warp() % lanes); }

// What the warps have found for a row that every n-th of them has, from `first` on.
__device__ __forceinline__ Row row_of_warps(int r, int first, int n, int free_stage) {
    const Results& all = results();
    Row row = {-infinity(), 0.0f, {}};
#pragma unroll
    for (int w = 0; w < warps; ++w) {
        if (w % n == first) row.greatest = fmaxf(row.greatest, all.greatest[w][r]);
    }
#pragma unroll
    for (int w = 0; w < warps; ++w) {
        if (w % n != first) continue;
        const float4 other = *reinterpret_cast<const float4*>(&weighted_of(w, free_stage)[r][weighted_place(r, element())]);
        row.add(all.greatest[w][r], all.sum[w][r], other);
    }
    return row;
}

__device__ __forceinline__ void write_result(const Arguments& a, const Work& work, int r, const Row& row) {
    const int packed_row = work.first_packed + r;
    const long long q_row = work.first_row + packed_row / group;
    const int head = work.kv_head * group + packed_row % group;
    const float share = 1.0f / row.sum;
    const unsigned low = packed<Element>(row.weighted[0] * share, row.weighted[1] * share);
    const unsigned high = packed<Element>(row.weighted[2] * share, row.weighted[3] * share);
    auto* words = reinterpret_cast<unsigned long long*>(a.y + (q_row * Dims::H + head) * Dims::HD + element());
    if (has_elements()) *words = low | static_cast<unsigned long long>(high) << 32;
}

__device__ __forceinline__ long long place_of(int slot, int r) { return static_cast<long long>(slot) * Dims::M + r; }

__device__ __forceinline__ void write_partial(const Arguments& a, int slot, int r, const Row& row) {
    const long long place = place_of(slot, r);
    if (has_elements()) store_floats(a.partial + place * Dims::HD + element(), row.weighted);
    if (lane_in_warp() == 0) {
        a.statistics[2 * place] = row.greatest;
        a.statistics[2 * place + 1] = row.sum;
    }
}

// A row of all splits of a task.
__device__ __forceinline__ Row row_of_splits(const Arguments& a, int first, int splits, int r) {
    Row row = {-infinity(), 0.0f, {}};
    for (int i = lane_in_warp(); i < splits; i += 32) {
        row.greatest = fmaxf(row.greatest, load_global(a.statistics + 2 * place_of(first + i, r)));
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        row.greatest = fmaxf(row.greatest, __shfl_xor_sync(~0u, row.greatest, distance));
    }
#pragma unroll 8
    for (int i = 0; i < splits; ++i) {
        const long long place = place_of(first + i, r);
        float weighted[4];
        load_floats(a.partial + place * Dims::HD + element(), weighted);
        const float greatest = load_global(a.statistics + 2 * place), sum = load_global(a.statistics + 2 * place + 1);
        row.add(greatest, sum, make_float4(weighted[0], weighted[1], weighted[2], weighted[3]));
    }
    return row;
}

// Counts the item as arrived, and writes the task's results if it is the last one to.
__device__ __forceinline__ void arrive(const Arguments& a, const Work& work) {
    __shared__ bool is_last;
    const int first = load_global(a.counters + 2 * work.counter), splits = load_global(a.counters + 2 * work.counter + 1);
    meet();  // all threads have stored
    if (thread_of<Launch>() == 0) {
        const unsigned last = static_cast<unsigned>(splits - 1);
        is_last = arrive_and_count(a.arrived + work.counter, last) == last;
    }
    meet();
    if (!is_last) return;
#pragma unroll 1
    for (int r = warp_in_cta(); r < work.rows; r += warps) write_result(a, work, r, row_of_splits(a, first, splits, r));
}

// The ring's present stage.
struct Turn {
    int stage;
    __device__ __forceinline__ int before() const { return stage == 0 ? stages - 1 : stage - 1; }
    __device__ __forceinline__ void advance() { stage = stage + 1 == stages ? 0 : stage + 1; }
};

// The positions of a pass, for the warp's rows.
__device__ __forceinline__ void attend_pass(
    const Arguments& a, const Work& work, int pass, int sharing, Loader& loader, Turn& turn, Found& found) {
    const Span span = span_of(work, pass);
    const int own = warp_in_cta() % sharing, first_row = first_row_of(pass) + own * rows_a_warp;
    const int begin = warp_in_cta() - own, stop = first_row < work.rows ? begin + sharing : begin;
    Queries q;
    load_queries(a, work, first_row, q);
#pragma unroll 1
    for (int i = 0; i < span.steps; ++i) {
        await_stage();
        if (sharing > 1) meet();  // all have waited for their stages, and are through with those that are filled next
        loader.begin(a, turn.before());
#pragma unroll 1
        for (int warp = begin; warp < stop; ++warp) {
            const int first = position_of(span, i, warp);
            if (first < span.end) attend_step(stage(turn.stage, warp), q, work, first_row, first, span.end, found);
        }
        turn.advance();
    }
}

// The rows of a pass, once all that is known of them is in shared memory.
__device__ __forceinline__ void write_rows(const Arguments& a, const Work& work, int pass, int sharing, int free_stage) {
    const int first_row = first_row_of(pass), count = rows_of(work, pass);
#pragma unroll 1
    for (int r = warp_in_cta(); r < count; r += warps) {
        const Row row = row_of_warps(r % rows_a_warp, r / rows_a_warp, sharing, free_stage);
        if (work.slot < 0) write_result(a, work, first_row + r, row);
        else write_partial(a, work.slot, first_row + r, row);
    }
}

__device__ __forceinline__ void attend_items(const Arguments& a, const Range& range) {
    if (range.count == 0) return;
    begin_works(a, range);
    meet();
    Loader loader(a, range.count);
#pragma unroll 1
    for (int i = 0; i < stages - 1; ++i) loader.begin(a, i);
    Turn turn = {0};
#pragma unroll 1
    for (int item = 0; item < range.count; ++item) {
        const Work& work = work_of(item);
        record_begin(a, range.item(item), 0, has_tiles);
        const int passes = passes_of(work);
#pragma unroll 1
        for (int pass = 0; pass < passes; ++pass) {
            const int sharing = sharing_warps(work, pass);
            Found found = nothing_found();
            attend_pass(a, work, pass, sharing, loader, turn, found);
            if (sharing > 1) meet();  // the others have read the stage
            publish(found, turn.before());
            meet();
            if (pass == 0) refill_works(a, item, range);
            write_rows(a, work, pass, sharing, turn.before());
            meet();  // the free stages are filled next
        }
        if (work.slot >= 0) arrive(a, work);
        record_end(a, range.item(item));
    }
    await_copy_groups<0>();
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#include "attention_roles.cuh"
#else
__device__ __forceinline__ void attend_in_roles(const Arguments&) {}
#endif

__device__ __forceinline__ void attend(const Arguments& a, Locals&) {
    if constexpr (has_tiles) attend_in_roles(a);
    else if (warp_in_cta() < warps) attend_items(a, range_of_cta(a));
}
