// Attention of the tokens of several sequences over the rows of theirs up to each token's position: a cluster of CTAs for
// each KV head of a token, as in attention_cluster.cu. The tokens of a sequence have positions that follow each other; the
// rows from the first of these on are appended by the step itself. Outputs are divided for the tensor cores of the next
// kernel.
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

// A KV head of a token: what a cluster works on.
constexpr int units = Dims::B * Dims::KV;
struct Unit {
    int number, begun;     // which, and the position of the sequence's first token
    const Stored *k, *v;   // the lane's pieces of the first row
    Span span;
};
__device__ __forceinline__ Unit unit_at(const Arguments& a, int number) {
    const int token = number / Dims::KV, sequence = token / tokens;
    const int begun = position_of(a, sequence), start = number % Dims::KV * Dims::HD + lane() * piece;
    const Stored *k = keys_of(a, sequence) + start, *v = values_of(a, sequence) + start;
    return {number, begun, k, v, span_up_to(begun + token % tokens)};
}

struct Locals {
    Unit unit;
    Tile tiles[ahead];
};

__device__ __forceinline__ void load_row(const Unit& unit, int row, bool wanted, uint4& k, uint4& v) {
    const long long at = static_cast<long long>(wanted ? row : 0) * (Dims::KV * Dims::HD);
    k = load16_once(unit.k + at, wanted);
    v = load16_once(unit.v + at, wanted);
}
// The rows of a tile before another one.
__device__ __forceinline__ void load_tile(const Unit& unit, int number, int stop, Tile& tile) {
#pragma unroll
    for (int j = 0; j < rows; ++j) {
        const int row = row_at(unit.span, number, j);
        load_row(unit, row, row < stop, tile.k[j], tile.v[j]);
    }
}
__device__ __forceinline__ void load_first_tiles(Locals& l) {
#pragma unroll
    for (int i = 0; i < ahead; ++i) load_tile(l.unit, i, least(l.unit.span.stop, l.unit.begun), l.tiles[i]);
}
// What the first tiles lack: rows that the kernels before have just written.
__device__ __forceinline__ void load_late_rows(Locals& l) {
    if (l.unit.span.stop <= l.unit.begun) return;
#pragma unroll
    for (int i = 0; i < ahead; ++i) {
#pragma unroll
        for (int j = 0; j < rows; ++j) {
            const int row = row_at(l.unit.span, i, j);
            if (row < l.unit.begun || row >= l.unit.span.stop) continue;
            load_row(l.unit, row, true, l.tiles[i].k[j], l.tiles[i].v[j]);
        }
    }
}

// All rows of the span. The registers of a tile take another one as soon as it is through.
__device__ __forceinline__ void attend_tiles(const float (&q)[heads][piece], Locals& l, Found& found) {
    const Span& span = l.unit.span;
    // As many tiles for every thread, since the lanes of a warp exchange their sums.
    const int tiles = ceil_div(span.stop - span.first, rows * groups);
#pragma unroll 1
    for (int first = 0; first < tiles; first += ahead) {
#pragma unroll
        for (int i = 0; i < ahead; ++i) {
            const int number = first + i;
            if (number >= tiles) break;
            attend_tile(l.tiles[i], q, span, number, found);
            if (number + ahead < tiles) load_tile(l.unit, number + ahead, span.stop, l.tiles[i]);
        }
    }
}

// The first tiles of the cluster's first unit, as far as earlier steps have appended them.
__device__ __forceinline__ void load_past(const Arguments& a, Locals& l) {
    open_exchange(true);
    l.unit = unit_at(a, least(cluster_in_grid<Launch>(), units - 1));
    load_first_tiles(l);
    await_cluster();
}

// What the CTA finds in its spans, to all CTAs of the cluster.
__device__ __forceinline__ void attend_spans(const Arguments& a, Locals& l, Exchange& shared) {
    load_late_rows(l);
    float q[heads][piece];
    const float scale = 1.4426950408889634f / sqrtf(static_cast<float>(Dims::HD));
#pragma unroll
    for (int h = 0; h < heads; ++h) {
        load_floats(a.q + (l.unit.number * heads + h) * Dims::HD + lane() * piece, q[h]);
    }
#pragma unroll
    for (int h = 0; h < heads; ++h) {
#pragma unroll
        for (int e = 0; e < piece; ++e) q[h][e] *= scale;
    }
#pragma unroll 1
    for (int part = 0; part < spans_a_cta; ++part) {
        Found found = {};
#pragma unroll
        for (int h = 0; h < heads; ++h) found.greatest[h] = lowest();
        attend_tiles(q, l, found);
        if (part + 1 < spans_a_cta) {
            l.unit.span = span_up_to(l.unit.span.position, part + 1);
#pragma unroll
            for (int i = 0; i < ahead; ++i) load_tile(l.unit, i, l.unit.span.stop, l.tiles[i]);
        }
        merge_groups(found);
        if (part > 0) __syncthreads();  // what was found in the span before has been read
        publish(found, shared);
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
            load_first_tiles(l);
            await_cluster();
        }
        attend_spans(a, l, shared);
        await_arrival(&shared.arrival, turn % 2);
        write_outputs(number, shared, [&](int place, float output) { store_divided(a.y, place, output); });
    }
}
