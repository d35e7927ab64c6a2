// Fills the ring of a warp, step by step, item by item. The pages of the next 32 steps are loaded ahead, one a lane.
#pragma once

constexpr bool has_page_a_step = page_size % step == 0;

struct Loader {
    int items, item, pass, passes, i;
    Span span;
    int kv_head, first_page;
    int pages, next_pages;  // of the present 32 steps, and of those that follow

    __device__ __forceinline__ Loader(const Arguments& a, int items) : items(items), item(0) {
        enter(0);
        pages = load_pages(a, work_of(item), span, 0);
        prefetch(a);
    }

    __device__ __forceinline__ void enter(int number) {
        const Work& work = work_of(item);
        pass = number;
        passes = passes_of(work);
        i = 0;
        span = span_of(work, pass);
        kv_head = work.kv_head;
        first_page = work.first_page;
    }

    static __device__ __forceinline__ int load_pages(const Arguments& a, const Work& work, const Span& span, int first) {
        if constexpr (!has_page_a_step) return 0;
        const int position = position_of(span, first + lane_in_warp(), warp_in_cta());
        return position < span.end ? load_global(a.pages + work.first_page + position / page_size) : 0;
    }

    __device__ __forceinline__ void prefetch(const Arguments& a) {
        if constexpr (!has_page_a_step) return;
        const int next = i + 32;
        if (next < span.steps) {
            next_pages = load_pages(a, work_of(item), span, next);
        } else if (pass + 1 < passes) {
            const Work& work = work_of(item);
            next_pages = load_pages(a, work, span_of(work, pass + 1), 0);
        } else if (item + 1 < items) {
            const Work& work = work_of(item + 1);
            next_pages = load_pages(a, work, span_of(work, 0), 0);
        }
    }

    __device__ __forceinline__ void advance(const Arguments& a) {
        if (++i < span.steps) {
            if (i % 32) return;
        } else if (pass + 1 < passes) {
            enter(pass + 1);
        } else if (++item < items) {
            enter(0);
        } else {
            return;
        }
        pages = next_pages;
        prefetch(a);
    }

    __device__ __forceinline__ int page_at(const Arguments& a, int position) const {
        return load_global(a.pages + first_page + static_cast<unsigned>(position) / page_size);
    }

    // Begins the copies of a step, if one is left.
    __device__ __forceinline__ void begin(const Arguments& a, int number) {
        if (item < items) {
            const int page = __shfl_sync(~0u, pages, i % 32);
            begin_pieces(a, number, page);
            advance(a);
        }
        end_copy_group();
    }

    // Where a position's row begins. Rows of one page lie at equal distances, so that most of this is done once a step.
    __device__ __forceinline__ long long row_at(const Arguments& a, int first, int row, bool wanted, int page) const {
        const int position = has_page_a_step ? first : first + row;
        if constexpr (!has_page_a_step) page = wanted ? page_at(a, position) : 0;
        const int within = static_cast<int>(static_cast<unsigned>(position) % static_cast<unsigned>(page_size));
        const long long start = (static_cast<long long>(page) * page_size + within) * Dims::KV + kv_head;
        return (start + (has_page_a_step ? row * Dims::KV : 0)) * Dims::HD;
    }

    // 16 bytes a lane and copy; zeros where there is no position.
    __device__ __forceinline__ void begin_pieces(const Arguments& a, int number, int page) const {
        const int first = position_of(span, i, warp_in_cta()), row = lane_in_warp() / chunks, chunk = lane_in_warp() % chunks;
        // Bits of `j` are none of `row`.
        const unsigned to = shared_address(stage(number, warp_in_cta())) + row * row_bytes + (chunk ^ (row & swizzle)) * 16;
        long long start = has_page_a_step ? row_at(a, first, row, true, page) + chunk * 8 : 0;
#pragma unroll
        for (int j = 0; j < step; j += rows_a_copy) {
            const bool wanted = first + row + j < span.end;
            if constexpr (!has_page_a_step) start = row_at(a, first, row + j, wanted, page) + chunk * 8;
            const int ahead = has_page_a_step ? j * Dims::KV * Dims::HD : 0;
            const unsigned piece = (to ^ (j & swizzle) * 16) + j * row_bytes;
            begin_copy16_at(piece, a.k_cache + start + ahead, wanted);
            begin_copy16_at(piece + matrix_bytes, a.v_cache + start + ahead, wanted);
        }
    }
};
