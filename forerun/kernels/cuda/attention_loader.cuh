// Fills the ring of a warp, step by step, item by item. The pages of the next 32 steps are loaded ahead, one a lane.
#pragma once

constexpr bool has_page_a_step = page_size % step == 0;

struct Loader {
    int items, item, tile, tiles, i;
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
        tile = number;
        tiles = ceil_div(work.rows, step);
        i = 0;
        span = span_of(work, tile);
        kv_head = work.kv_head;
        first_page = work.first_page;
    }

    static __device__ __forceinline__ int load_pages(const Arguments& a, const Work& work, const Span& span, int first) {
        if constexpr (!has_page_a_step) return 0;
        const int position = position_of(span, first + lane_in_warp());
        return position < span.end ? load_global(a.pages + work.first_page + position / page_size) : 0;
    }

    __device__ __forceinline__ void prefetch(const Arguments& a) {
        if constexpr (!has_page_a_step) return;
        const int next = i + 32;
        if (next < span.steps) {
            next_pages = load_pages(a, work_of(item), span, next);
        } else if (tile + 1 < tiles) {
            const Work& work = work_of(item);
            next_pages = load_pages(a, work, span_of(work, tile + 1), 0);
        } else if (item + 1 < items) {
            const Work& work = work_of(item + 1);
            next_pages = load_pages(a, work, span_of(work, 0), 0);
        }
    }

    __device__ __forceinline__ void advance(const Arguments& a) {
        if (++i < span.steps) {
            if (i % 32) return;
        } else if (tile + 1 < tiles) {
            enter(tile + 1);
        } else if (++item < items) {
            enter(0);
        } else {
            return;
        }
        pages = next_pages;
        prefetch(a);
    }

    __device__ __forceinline__ int page_at(const Arguments& a, int position) const {
        return load_global(a.pages + first_page + position / page_size);
    }

    // Begins the copies of a step, if one is left.
    __device__ __forceinline__ void begin(const Arguments& a, int number) {
        if (item < items) {
            const int page = __shfl_sync(~0u, pages, i % 32);
            if constexpr (in_bulk) begin_rows(a, number, page);
            else begin_pieces(a, number, page);
            advance(a);
        }
        if constexpr (!in_bulk) end_copy_group();
    }

    __device__ __forceinline__ long long row_at(const Arguments& a, int position, bool wanted, int page_of_step) const {
        const long long page = has_page_a_step ? page_of_step : wanted ? page_at(a, position) : 0;
        return ((page * page_size + position % page_size) * Dims::KV + kv_head) * Dims::HD;
    }

    // 16 bytes a lane and copy; zeros where there is no position.
    __device__ __forceinline__ void begin_pieces(const Arguments& a, int number, int page) const {
        const int first = position_of(span, i), chunk = lane_in_warp() % chunks;
        unsigned char* k = stage(number) + lane_in_warp() / chunks * padded + chunk * 16;
#pragma unroll
        for (int j = 0; j < step / rows_a_copy; ++j) {
            const int position = first + j * rows_a_copy + lane_in_warp() / chunks;
            const bool wanted = position < span.end;
            const long long row = row_at(a, position, wanted, page);
            unsigned char* to = k + j * rows_a_copy * padded;
            begin_copy16(to, a.k_cache + row + chunk * 8, wanted);
            begin_copy16(to + matrix_bytes, a.v_cache + row + chunk * 8, wanted);
        }
    }

    // A row a lane: those of K, then those of V.
    __device__ __forceinline__ void begin_rows(const Arguments& a, int number, int page) const {
        const int lane = lane_in_warp(), first = position_of(span, i), position = first + lane % step;
        const bool wanted = position < span.end;
        unsigned char* to = stage(number) + (lane < step ? 0 : matrix_bytes) + lane % step * padded;
        free_for_copies();
        __syncwarp();
        if (lane == 0) expect(arrival_of(number), 2 * row_bytes * least(step, greatest(span.end - first, 0)));
        __syncwarp();
        const Element* cache = lane < step ? a.k_cache : a.v_cache;
        if (wanted) {
            begin_expected_copy(to, cache + row_at(a, position, true, page), row_bytes, arrival_of(number));
        } else {
#pragma unroll
            for (int j = 0; j < chunks; ++j) reinterpret_cast<uint4*>(to)[j] = {0, 0, 0, 0};
        }
    }
};
