// A warpgroup that loads what the others compute with: the queries of each tile, and the blocks of its positions.
#pragma once

// The number of a piece of 16 bytes in a cache.
template <bool has_32_bits> struct PieceNumber {
    using type = unsigned;
};
template <> struct PieceNumber<false> {
    using type = long long;
};

struct TileLoader {
    int blocks;  // in the ring
    Place tile, place;

    static constexpr int rows_at_once = loading_threads / chunks;  // a thread has one piece of a row
    static constexpr int copies = block / rows_at_once;
    static_assert(!has_tiles || rows_at_once % 8 == 0, "all rows of a thread are swizzled alike");

    static __device__ __forceinline__ int thread() { return thread_of<Launch>() % loading_threads; }
    static __device__ __forceinline__ int row() { return thread() / chunks; }
    static __device__ __forceinline__ int chunk() { return thread() % chunks; }
    // Where the thread's piece of its first row lies; `panel` is the size of one.
    static __device__ __forceinline__ unsigned own_place(int panel) {
        return chunk() / 8 * panel + row() * panel_bytes + ((chunk() ^ row()) % 8) * 16;
    }

    // Rows of a thread whose positions lie in one page, since blocks begin at multiples of 64.
    static constexpr int rows_a_page = page_size % block == 0                ? copies
                                       : page_size % (4 * rows_at_once) == 0 ? least(4, copies)
                                       : page_size % (2 * rows_at_once) == 0 ? least(2, copies)
                                                                             : 1;
    static constexpr int pages_a_block = copies / rows_a_page;

    // The pages of the thread's rows of a block.
    using Pages = int[pages_a_block];
    static __device__ __forceinline__ unsigned position_at(const Blocks& all, int i, int page) {
        return all.begin + i * block + row() + page * rows_a_page * rows_at_once;
    }
    static __device__ __forceinline__ void load_pages(
        const Arguments& a, const Work& work, const Blocks& all, int i, Pages& pages) {
        const int* first = a.pages + work.first_page;
#pragma unroll
        for (int j = 0; j < pages_a_block; ++j) {
            const unsigned position = position_at(all, i, j);
            pages[j] = position < all.end ? load_global(first + position / page_size) : 0;
        }
    }
    // Where the thread's pieces of rows begin, in pieces of 16 bytes: of the first row in each page.
    using Row = PieceNumber<(1LL * Dims::N * page_size * Dims::KV * chunks <= 1LL << 32)>::type;
    using Rows = Row[pages_a_block];
    static __device__ __forceinline__ void find_rows(
        const Work& work, const Blocks& all, int i, const Pages& pages, Rows& rows) {
#pragma unroll
        for (int j = 0; j < pages_a_block; ++j) {
            const Row start = static_cast<Row>(pages[j]) * page_size + position_at(all, i, j) % page_size;
            rows[j] = (start * Dims::KV + work.kv_head) * chunks + chunk();
        }
    }

    // `left` positions of the block are there, or all.
    template <bool whole>
    static __device__ __forceinline__ void copy_rows(unsigned to, const Element* from, int left, const Rows& rows) {
#pragma unroll
        for (int j = 0; j < copies; ++j) {
            const int ahead = j % rows_a_page * rows_at_once * Dims::KV * Dims::HD;
            const bool wanted = whole || row() + j * rows_at_once < left;
            begin_copy16_at(to + j * rows_at_once * panel_bytes, from + 8ll * rows[j / rows_a_page] + ahead, wanted);
        }
    }

    // Zeros for rows that the tile does not have; a second half without any is left out.
    static __device__ __forceinline__ void copy_queries(const Arguments& a, const Work& work, unsigned to) {
#pragma unroll 4
        for (int first = 0; first < (work.rows > 64 ? 128 : 64); first += rows_at_once) {
            const int packed_row = work.first_packed + first + row();
            const bool wanted = first + row() < work.rows;
            const long long q_row = work.first_row + (wanted ? packed_row / group : 0);
            const int head = work.kv_head * group + packed_row % group;
            begin_copy16_at(to + first * panel_bytes, a.q + (q_row * Dims::H + head) * Dims::HD + 8 * chunk(), wanted);
        }
    }

    __device__ __forceinline__ void load_tile(const Arguments& a, const Work& work) {
        Tiles& shared = tiles_in_shared();
        await_arrival(&shared.empty[tile.number], tile.parity ^ 1);
        if (thread() == 0) {
            shared.work[tile.number] = work;
            arrive_at(&shared.full[tile.number]);
        }
        copy_queries(a, work, tile_at(tile.number) + own_place(tile_panel));
        arrive_with_copies(&shared.full[tile.number]);
        tile.advance(tiles);
    }

    template <bool whole>
    __device__ __forceinline__ void load_block(const Arguments& a, int left, const Rows& rows) {
        Tiles& shared = tiles_in_shared();
        await_arrival(&shared.free_keys[place.number], place.parity ^ 1);
        copy_rows<whole>(keys_at(place.number) + own_place(block_panel), a.k_cache, left, rows);
        arrive_with_copies(&shared.has_keys[place.number]);
        await_arrival(&shared.free_values[place.number], place.parity ^ 1);
        copy_rows<whole>(values_at(place.number) + own_place(block_panel), a.v_cache, left, rows);
        arrive_with_copies(&shared.has_values[place.number]);
        place.advance(blocks);
    }

    // 32 items are looked up at once, one a lane; the pages of the next block are loaded while those of one are used.
    __device__ __forceinline__ void load(const Arguments& a, const Range& range) {
        const auto look_up = [&](int first) {
            return looked_up(a, range.item(least(first + lane_in_warp(), range.count - 1)));
        };
        Work looked = look_up(0), next = of_lane(looked);
        Blocks next_blocks = blocks_of(next);
        Pages pages;
        load_pages(a, next, next_blocks, 0, pages);
#pragma unroll 1
        for (int item = 0; item < range.count; ++item) {
            const Work work = next;
            const Blocks all = next_blocks;
            load_tile(a, work);
#pragma unroll 1
            for (int i = 0; i < all.count; ++i) {
                Rows rows;
                find_rows(work, all, i, pages, rows);
                if (i + 1 < all.count) {
                    load_pages(a, work, all, i + 1, pages);
                } else if (item + 1 < range.count) {
                    if ((item + 1) % 32 == 0) looked = look_up(item + 1);
                    next = of_lane(looked, (item + 1) % 32);
                    next_blocks = blocks_of(next);
                    load_pages(a, next, next_blocks, 0, pages);
                }
                const int left = all.end - all.begin - i * block;
                if (left >= block) load_block<true>(a, left, rows);
                else load_block<false>(a, left, rows);
            }
        }
    }
};
