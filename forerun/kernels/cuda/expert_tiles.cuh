// Products of ragged rows with the weights of their experts, by the tensor cores: a CTA works off its items, wherever
// they come from.
//
// An item is some outputs of a group of up to 16 rows, which lie in shared memory meanwhile. Sixteen outputs at a time,
// the warps of the CTA take every n-th step of 64 columns; each warp has a ring of stages in shared memory for its
// weights, which is filled over the ends of items. The sums of the warps are added up in their order, so the bits of a
// result depend on its row and weights alone, however the work is cut.
#pragma once

#include "bulk_copy.cuh"
#include "copy_groups.cuh"
#include "expert_groups.cuh"
#include "tensor_core.cuh"

using Element = Types::w;
static_assert(is_same<Element, Types::x> && sizeof(Element) == 2, "rows and weights are both bf16, or both f16");
static_assert(Dims::K % 16 == 0, "the tensor cores take 16 columns");
static_assert(has_whole_warps<Launch>, "columns belong to warps");

struct Locals {};

constexpr int warps = warps_of<Launch>, columns = Dims::K;
constexpr int group_rows = group_rows_of(columns);
constexpr int block = 16, depth = 64, steps = ceil_div(columns, depth);

// The rows of the group, padded so that eight of them lie in different banks; sums of all warps, of two blocks by turns;
// and the rings.
constexpr int row_pitch = (columns / 8 | 1) * 16, rows_bytes = group_rows * row_pitch;
using Sums = float[group_rows][block + 4];
constexpr int sums_bytes = 2 * warps * static_cast<int>(sizeof(Sums));
constexpr int stage_row_bytes = depth * 2, stage_bytes = block * stage_row_bytes;
constexpr int stages = least(16, (Launch::shared_bytes - rows_bytes - sums_bytes) / (warps * stage_bytes));
static_assert(stages >= 2, "each warp needs two stages of a ring in shared memory");

__device__ __forceinline__ int lane_in_warp() { return thread_of<Launch>() % 32; }
__device__ __forceinline__ int warp_in_cta() { return thread_of<Launch>() / 32; }
__device__ __forceinline__ unsigned char* row_in_shared(int row) { return dynamic_shared + row * row_pitch; }
__device__ __forceinline__ Sums& sums_of(int turn, int warp) {
    return reinterpret_cast<Sums*>(dynamic_shared + rows_bytes)[turn * warps + warp];
}
__device__ __forceinline__ unsigned char* stage(int number) {
    return dynamic_shared + rows_bytes + sums_bytes + (warp_in_cta() * stages + number) * stage_bytes;
}
// Pieces of 16 bytes change places, so that those of eight rows lie in different banks.
__device__ __forceinline__ int place_in_stage(int row, int piece) { return row * stage_row_bytes + (piece ^ row % 8) * 16; }

struct Work {
    int expert, first_row, rows;  // of x
    int begin, end;               // outputs
};

// Fills the ring of a warp, step by step, block by block, item by item. `Works` are the items of the CTA: `count` of
// them, and one looked up by its number.
template <class Works> struct Loader {
    const Works& works;
    int item, output, step;
    Work work, next;

    __device__ __forceinline__ explicit Loader(const Works& works) : works(works), item(0) {
        next = works.look_up(0);
        if (warp_in_cta() < steps) enter();
        else item = works.count;
    }
    __device__ __forceinline__ void enter() {
        work = next;
        output = work.begin;
        step = warp_in_cta();
        if (item + 1 < works.count) next = works.look_up(item + 1);
    }
    __device__ __forceinline__ void copy(const Arguments& a, unsigned char* to) const {
        const int piece = lane_in_warp() % 8, first = lane_in_warp() / 8, column = step * depth + 8 * piece;
        const long long row = static_cast<long long>(work.expert) * Dims::N + output + first;
        const Element* from = a.w + row * columns + column;
#pragma unroll
        for (int r = 0; r < block; r += 4) {
            const bool wanted = output + first + r < work.end && (columns % depth == 0 || column < columns);
            begin_copy16(to + place_in_stage(first + r, piece), from + r * columns, wanted);
        }
    }
    // Begins the copies of a step, if one is left.
    __device__ __forceinline__ void begin(const Arguments& a, unsigned char* to) {
        if (item < works.count) {
            copy(a, to);
            if ((step += warps) >= steps) {
                step = warp_in_cta();
                if ((output += block) >= work.end && ++item < works.count) enter();
            }
        }
        end_copy_group();
    }
};

// Begins to load the rows of an item, when all are through with those before; a warp calls it.
__device__ __forceinline__ void begin_rows(const Arguments& a, const Work& work, Arrival* arrival) {
    const int lane = lane_in_warp();
    free_for_copies();
    if (lane == 0) expect(arrival, work.rows * columns * 2);
    __syncwarp();
    const Element* from = a.x + static_cast<long long>(work.first_row + lane) * columns;
    if (lane < work.rows) begin_expected_copy(row_in_shared(lane), from, columns * 2, arrival);
}

// The lane's sums of 16 outputs, `lane / 4` and 8 more, and of two times eight rows. Rows that the item lacks have any.
using Found = float[2][4];

// A stage of weights times the columns of up to 8 rows, or of up to 16. Both add up in the same order.
template <bool is_wide> __device__ __forceinline__ void multiply_stage(const unsigned char* w, int step, Found& found) {
    const int lane = lane_in_warp(), first = step * depth;
    const int row = lane % 8 + (is_wide ? lane / 16 * 8 : 0), piece = is_wide ? lane / 8 % 2 : lane / 8;
    const unsigned char* x = row_in_shared(row) + first * 2 + piece * 16;
    unsigned of_x[4];
#pragma unroll
    for (int j = 0; j < depth / 16; ++j) {
        if (columns % depth != 0 && first + 16 * j >= columns) break;
        unsigned of_w[4];
        load_matrices(w + place_in_stage(lane % 16, 2 * j + lane / 16), of_w);
        if (is_wide || j % 2 == 0) load_matrices(x + 32 * j, of_x);
        if (is_wide) {
            multiply_add<Element>(found[0], of_w, of_x[0], of_x[1]);
            multiply_add<Element>(found[1], of_w, of_x[2], of_x[3]);
        } else {
            multiply_add<Element>(found[0], of_w, of_x[j % 2 * 2], of_x[j % 2 * 2 + 1]);
        }
    }
}

__device__ __forceinline__ void publish(const Found& found, Sums& sums) {
    const int output = lane_in_warp() / 4, row = lane_in_warp() % 4 * 2;
#pragma unroll
    for (int i = 0; i < group_rows / 2; ++i) sums[row + i % 2 + i / 4 * 8][output + i / 2 % 2 * 8] = found[i / 4][i % 4];
}

// Results of a block of outputs: the sums of the warps, in their order.
__device__ __forceinline__ void write_block(const Arguments& a, const Work& work, int first, int turn) {
    const int outputs = least(block, work.end - first);
#pragma unroll 1
    for (int i = thread_of<Launch>(); i < work.rows * block; i += Launch::threads) {
        const int row = i / block, output = i % block;
        if (output >= outputs) continue;
        float sum = sums_of(turn, 0)[row][output];
#pragma unroll
        for (int warp = 1; warp < warps; ++warp) sum += sums_of(turn, warp)[row][output];
        a.y[static_cast<long long>(work.first_row + row) * Dims::N + first + output] = sum;
    }
}

// The steps of a block that the warp has; returns the stage of the next one.
template <class Works>
__device__ __forceinline__ int multiply_block(
    const Arguments& a, bool is_wide, Loader<Works>& loader, int number, Found& found) {
#pragma unroll 1
    for (int step = warp_in_cta(); step < steps; step += warps) {
        await_copy_groups<stages - 2>();
        __syncwarp();
        loader.begin(a, stage(number == 0 ? stages - 1 : number - 1));
        if (group_rows > 8 && is_wide) multiply_stage<true>(stage(number), step, found);
        else multiply_stage<false>(stage(number), step, found);
        number = number + 1 == stages ? 0 : number + 1;
    }
    return number;
}

template <class Works> __device__ __forceinline__ void multiply_items(const Arguments& a, const Works& works) {
    __shared__ Arrival rows_are_there;
    if (works.count <= 0) return;
    const bool loads_rows = warp_in_cta() == warps - 1;  // which has the fewest steps
    Work work = works.look_up(0);
    if (thread_of<Launch>() == 0) {
        prepare(&rows_are_there);
        publish_prepared();
    }
    __syncthreads();
    Loader<Works> loader(works);
#pragma unroll 1
    for (int i = 0; i < stages - 1; ++i) loader.begin(a, stage(i));
    if (loads_rows) begin_rows(a, work, &rows_are_there);
    int number = 0, turn = 0;
#pragma unroll 1
    for (int item = 0; item < works.count; ++item) {
        const bool is_last_item = item + 1 == works.count;
        const Work next = works.look_up(is_last_item ? item : item + 1);
        await_arrival(&rows_are_there, item % 2);
#pragma unroll 1
        for (int output = work.begin; output < work.end; output += block) {
            Found found = {};
            number = multiply_block(a, work.rows > 8, loader, number, found);
            publish(found, sums_of(turn, warp_in_cta()));
            __syncthreads();  // and all are through with the sums of the block before
            const bool is_last = output + block >= work.end && !is_last_item;
            if (is_last && loads_rows) begin_rows(a, next, &rows_are_there);
            write_block(a, work, output, turn);
            turn ^= 1;
        }
        work = next;
    }
    await_copy_groups<0>();
}
