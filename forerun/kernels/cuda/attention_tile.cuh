// A warpgroup that attends to half of each large tile. While the tensor cores multiply the queries with the next keys,
// and the weights with the values, the warps make weights of scores (arXiv:2407.08608).
#pragma once

// Products read through the proxy of the copy engine: it is shown what is known to have arrived.
__device__ __forceinline__ void await_full(Arrival* arrival, int parity) {
    await_arrival(arrival, parity);
    free_for_copies();
}
__device__ __forceinline__ void release(Arrival* arrival) {
    if (lane_in_warp() == 0) arrive_at(arrival);
}

struct TileAttention {
    int blocks;  // in the ring
    int half;    // of the tile: the warpgroup's number among the two
    Place tile, keys, values;

    __device__ __forceinline__ int first_row() const { return half * 64; }

    // The keys' next block; the scores are there, and the block is free again.
    __device__ __forceinline__ void end_scores(TileScores& scores) {
        hold(scores);
        release(&tiles_in_shared().free_keys[keys.number]);
        keys.advance(blocks);
    }
    __device__ __forceinline__ void end_values(TileSums& found) {
        hold(found.weighted);
        release(&tiles_in_shared().free_values[values.number]);
        values.advance(blocks);
    }

    // Scores that are hidden, if some are, become weights. All rows of the warpgroup see the first blocks, `whole` of them.
    __device__ __forceinline__ bool weigh_block(
        const Work& work, int whole, int i, TileScores& scores, TileSums& found, float (&kept)[2]) const {
        if (i >= whole) {
            const Blocks all = blocks_of(work);
            hide(work, first_row(), all.end, all.begin + i * block, scores);
        }
        return weigh(scores, found, kept);
    }
    __device__ __forceinline__ int whole_blocks(const Work& work, const Blocks& all) const {
        return (least(all.end, work.past + (work.first_packed + first_row()) / group + 1) - all.begin) / block;
    }

    __device__ __forceinline__ void attend(const Work& work, unsigned q, TileSums& found) {
        Tiles& shared = tiles_in_shared();
        const Blocks all = blocks_of(work);
        const int count = of_lane(all.count), whole = of_lane(whole_blocks(work, all));
        TileScores scores;
        TileWeights weights;
        float kept[2];
        await_full(&shared.has_keys[keys.number], keys.parity);
        begin_products();
        begin_scores(scores, q, keys_at(keys.number));
        end_product_group();
        await_product_groups<0>();
        end_scores(scores);
        weigh_block(work, whole, 0, scores, found, kept);
        pack(scores, weights);
#pragma unroll 1
        for (int i = 1; i < count; ++i) {
            await_arrival(&shared.has_keys[keys.number], keys.parity);
            await_full(&shared.has_values[values.number], values.parity);
            hold(scores);
            hold(found.weighted);
            begin_products();
            begin_scores(scores, q, keys_at(keys.number));
            end_product_group();
            begin_values(found, weights, values_at(values.number));
            end_product_group();
            await_product_groups<1>();
            end_scores(scores);
            // Each branch waits by itself: the assembler would move a common wait in front of all that was computed.
            if (weigh_block(work, whole, i, scores, found, kept)) {
                await_product_groups<0>();
                end_values(found);
                rescale(found, kept);
            } else {
                await_product_groups<0>();
                end_values(found);
            }
            pack(scores, weights);
        }
        await_full(&shared.has_values[values.number], values.parity);
        hold(found.weighted);
        begin_products();
        begin_values(found, weights, values_at(values.number));
        end_product_group();
        await_product_groups<0>();
        end_values(found);
    }

    // The blocks of a tile that has no row of the warpgroup's.
    __device__ __forceinline__ void skip(const Work& work) {
        Tiles& shared = tiles_in_shared();
        const int count = of_lane(blocks_of(work).count);
#pragma unroll 1
        for (int i = 0; i < count; ++i) {
            await_arrival(&shared.has_keys[keys.number], keys.parity);
            release(&shared.free_keys[keys.number]);
            keys.advance(blocks);
            await_arrival(&shared.has_values[values.number], values.parity);
            release(&shared.free_values[values.number]);
            values.advance(blocks);
        }
    }

    __device__ __forceinline__ void compute(const Arguments& a, const Range& range) {
        Tiles& shared = tiles_in_shared();
#pragma unroll 1
        for (int item = 0; item < range.count; ++item) {
            record_begin(a, range.item(item), first_tile_thread);
            await_full(&shared.full[tile.number], tile.parity);
            const Work& in_shared = shared.work[tile.number];
            TileSums found = {};
            found.greatest[0] = found.greatest[1] = -infinity();
            const bool has_rows = first_row() < of_lane(in_shared.rows);
            if (has_rows) attend(in_shared, tile_at(tile.number) + first_row() * panel_bytes, found);
            else skip(in_shared);
            const Work work = of_lane(in_shared);
            release(&shared.empty[tile.number]);
            if (has_rows) write_tile(a, work, first_row(), found);
            tile.advance(tiles);
            if (work.slot >= 0) merge_tile(a, work);
            record_end(a, range.item(item), first_tile_thread);
        }
    }
};
