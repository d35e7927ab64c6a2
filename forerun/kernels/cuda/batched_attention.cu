// Attention of the tokens of several sequences over the rows of theirs up to each token's position: a cluster of CTAs
// for each KV head of a token, as in attention_cluster.cu. The tokens of a sequence have positions that follow each
// other; the rows from the first of these on are appended by the step itself. Outputs are divided for the tensor cores
// of the next kernel.
//
// Into how many spans the rows are cut depends on the shapes alone, and so does the order of sums. The CTAs of smaller
// clusters, of which more are resident, take several spans, one after the other.

#include "batched_halves.cuh"
#include "batched_sequences.cuh"

using Stored = Types::k_cache0;
constexpr int wanted_spans = least(Dims::T > 1536 ? 16 : 8, Dims::HD);  // as many as attention_cluster has CTAs
constexpr int spans_a_cta = wanted_spans / Launch::cluster;
static_assert(spans_a_cta * Launch::cluster == wanted_spans, "the CTAs of a cluster take as many spans each");
#include "attention_cluster.cuh"

#include "batched_attention_tiles.cuh"
constexpr int ahead_of_way = Way::tiles_ahead;

// A KV head of a token: what a cluster works on.
constexpr int units = Dims::B * Dims::KV;
struct Unit {
    int number, begun, position;  // which, and the positions of the sequence's first token and of this one
    Cache cache;
};
__device__ __forceinline__ Unit unit_at(const Arguments& a, int number) {
    const int token = number / Dims::KV, sequence = token / tokens;
    const int begun = position_of(a, sequence), start = number % Dims::KV * Dims::HD;
    return {number, begun, begun + token % tokens, {keys_of(a, sequence) + start, values_of(a, sequence) + start}};
}

constexpr int spans_ahead = Way::spans_ahead;

struct Locals {
    Unit unit;
    Way::Tile tiles[spans_ahead][ahead_of_way];
};

// The first tiles of a span, up to a row.
__device__ __forceinline__ void load_first_tiles(
    const Cache& cache, const Span& span, int stop, Way::Tile (&tiles)[ahead_of_way]) {
#pragma unroll
    for (int i = 0; i < ahead_of_way; ++i) {
        Way::load<false>(cache, span, i, tiles[i], [&](int row) { return row < stop; });
    }
}
__device__ __forceinline__ void load_earlier_rows(Locals& l) {
#pragma unroll
    for (int part = 0; part < spans_ahead; ++part) {
        const Span span = span_up_to(l.unit.position, part);
        load_first_tiles(l.unit.cache, span, least(span.stop, l.unit.begun), l.tiles[part]);
    }
}
// What the first tiles lack: rows that the kernels before have just written.
__device__ __forceinline__ void load_late_rows(Locals& l) {
#pragma unroll
    for (int part = 0; part < spans_ahead; ++part) {
        const Span span = span_up_to(l.unit.position, part);
        if (span.stop <= l.unit.begun) continue;
#pragma unroll
        for (int i = 0; i < ahead_of_way; ++i) {
            Way::load<true>(l.unit.cache, span, i, l.tiles[part][i], [&](int row) {
                return row >= l.unit.begun && row < span.stop;
            });
        }
    }
}

// All rows of a span. The registers of a tile take another one as soon as it is through.
__device__ __forceinline__ void attend_tiles(
    const Way::Query& query, const Cache& cache, const Span& span, Way::Tile (&tiles)[ahead_of_way],
    Way::Found& found) {
    // As many tiles for every thread, since the lanes of a warp exchange what they have.
    const int count = ceil_div(span.stop - span.first, Way::tile_rows);
#pragma unroll 1
    for (int first = 0; first < count; first += ahead_of_way) {
#pragma unroll
        for (int i = 0; i < ahead_of_way; ++i) {
            const int number = first + i;
            if (number >= count) break;
            Way::attend(tiles[i], query, span, number, found);
            if (number + ahead_of_way < count) {
                Way::load<false>(
                    cache, span, number + ahead_of_way, tiles[i], [&](int row) { return row < span.stop; });
            }
        }
    }
}

// The first tiles of the cluster's first unit, as far as earlier steps have appended them.
__device__ __forceinline__ void load_past(const Arguments& a, Locals& l) {
    open_exchange(true);
    l.unit = unit_at(a, least(cluster_in_grid<Launch>(), units - 1));
    load_earlier_rows(l);
    await_cluster();
}

// What the CTA finds in its spans, to all CTAs of the cluster.
__device__ __forceinline__ void attend_spans(const Arguments& a, Locals& l, Exchange& shared) {
    load_late_rows(l);
    Way::Query query;
    Way::load_query(a.q + l.unit.number * outputs, query);
#pragma unroll(spans_ahead)
    for (int part = 0; part < spans_a_cta; ++part) {
        const Span span = span_up_to(l.unit.position, part);
        Way::Found found = Way::nothing();
        attend_tiles(query, l.unit.cache, span, l.tiles[part % spans_ahead], found);
        if (spans_ahead == 1 && part + 1 < spans_a_cta) {
            const Span next = span_up_to(l.unit.position, part + 1);
            load_first_tiles(l.unit.cache, next, next.stop, l.tiles[0]);
        }
        if (part > 0) __syncthreads();  // what was found in the span before has been read
        Way::leave(found, shared);
        __syncthreads();
        send_all(shared, part);
    }
}

// Clusters take turns if there are fewer of them than units.
constexpr int turns = ceil_div(units, clusters_of<Launch>);

__device__ __forceinline__ void attend(const Arguments& a, Locals& l) {
    Exchange& shared = shared_of_cta<Exchange>();
#pragma unroll 1
    for (int turn = 0; turn < turns; ++turn) {
        const int number = turn * clusters_of<Launch> + cluster_in_grid<Launch>();
        if (number >= units) break;
        if (turn > 0) {
            open_exchange(false);
            l.unit = unit_at(a, number);
            load_earlier_rows(l);
            await_cluster();
        }
        attend_spans(a, l, shared);
        await_arrival(&shared.arrival, turn % 2);
        write_outputs(number, shared, [&](int place, float output) { store_divided(a.y, place, output); });
    }
}
