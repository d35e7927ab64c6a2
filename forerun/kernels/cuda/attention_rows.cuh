// Attention of grouped query heads over a span of rows of the KV cache; attention.cu and attention_split.cu include it
// into their namespaces, with `splits` defined.
//
// An item of work is a span of rows of one KV head, and some of the query heads that share it, so that a row is loaded
// once for all of them. In a CTA, groups of lanes each take every n-th row: a lane holds one piece of the row (more if
// rows are long), and of q and of the sums what belongs to it. A group keeps its own greatest score, and rescales its
// sums when a greater one comes (arXiv:1805.02867); the groups' results are merged when the span is through.

static_assert(has_whole_warps<Launch>, "rows belong to groups of lanes");
constexpr int warps = warps_of<Launch>;
constexpr int ctas = ctas_of<Launch>;
using Stored = Types::k_cache;

constexpr int piece = piece_of_row<Stored>(Dims::HD);  // elements
constexpr int pieces = Dims::HD / piece;
constexpr int lanes = power_of_two_from(least(pieces, 32));  // of a group
constexpr int held = ceil_div(pieces, lanes);                // pieces a lane
constexpr int groups = Launch::threads / lanes;

// Query heads an item: all that share a KV head, unless the grid is large enough to take them apart, or they are too
// many for the registers or for shared memory.
constexpr int sharing = Dims::H / Dims::KV;
constexpr int room = 32768 / (warps * (Dims::HD + 2) * static_cast<int>(sizeof(float)));
constexpr int heads = greatest(1, least(least(sharing, 8), least(ceil_div(Dims::H * splits, ctas), room)));
constexpr int blocks = ceil_div(sharing, heads);
constexpr int items = Dims::KV * blocks * splits;

constexpr int rows = 4;  // of a tile, a group
constexpr int most_tiles = ceil_div(ceil_div(Dims::T, splits), rows * groups);  // of a span
constexpr float log2_e = 1.4426950408889634f;

struct Item {
    int kv, first_head, split;
};
__device__ __forceinline__ Item item_at(int number) {
    const int block = number / splits % blocks, kv = number / (splits * blocks);
    return {kv, kv * sharing + block * heads, number % splits};
}
__device__ __forceinline__ bool has_head(const Item& item, int h) {
    return item.first_head + h < (item.kv + 1) * sharing;
}

// The rows from first to stop: the splits take equal parts of rows 0 to position; the last ones may get fewer, or none.
struct Span {
    int first, stop;
};
__device__ __forceinline__ Span span_of(const Item& item, int position) {
    const int share = ceil_div(position + 1, splits);
    return {least(item.split * share, position + 1), least((item.split + 1) * share, position + 1)};
}

struct Tile {
    uint4 k[rows][held], v[rows][held];
};

struct Locals {
    Tile past;
};

__device__ __forceinline__ int lane() { return thread_of<Launch>() % lanes; }
__device__ __forceinline__ int row_at(const Span& span, int tile, int j) {
    return span.first + (tile * rows + j) * groups + thread_of<Launch>() / lanes;
}
__device__ __forceinline__ bool in_row(int i) { return (i + 1) * lanes <= pieces || i * lanes + lane() < pieces; }
__device__ __forceinline__ int element_at(int i) { return (i * lanes + lane()) * piece; }

__device__ __forceinline__ void load_row(const Arguments& a, int kv, int row, bool wanted, Tile& tile, int j) {
    const long long start = (static_cast<long long>(row) * Dims::KV + kv) * Dims::HD;
#pragma unroll
    for (int i = 0; i < held; ++i) {
        tile.k[j][i] = load_piece_once<Stored, piece>(a.k_cache + start + element_at(i), wanted && in_row(i));
        tile.v[j][i] = load_piece_once<Stored, piece>(a.v_cache + start + element_at(i), wanted && in_row(i));
    }
}

// The rows of a tile that are before stop.
__device__ __forceinline__ void load_tile(const Arguments& a, int kv, const Span& span, int tile, int stop, Tile& to) {
#pragma unroll
    for (int j = 0; j < rows; ++j) {
        const int row = row_at(span, tile, j);
        load_row(a, kv, row, row < stop, to, j);
    }
}

// What a group has found so far, for each head: before any row, nothing is greatest.
struct Found {
    float greatest[heads], sum[heads], weighted[heads][held][piece];
};

// exp(score - greatest), where both may be -infinity: nothing has a share then.
__device__ __forceinline__ float share_of(float score, float greatest) {
    return score == -infinity() ? 0.0f : exp2f((score - greatest) * log2_e);
}

__device__ __forceinline__ float group_sum(float x) {
#pragma unroll
    for (int distance = lanes / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(~0u, x, distance);
    return x;
}

__device__ __forceinline__ void attend_tile(
    const Tile& tile, const float (&q)[heads][held][piece], const Span& span, int number, Found& found) {
    float scores[rows][heads] = {};
#pragma unroll
    for (int j = 0; j < rows; ++j) {
#pragma unroll
        for (int i = 0; i < held; ++i) {
            float k[piece];
            widen<Stored>(tile.k[j][i], k);
#pragma unroll
            for (int h = 0; h < heads; ++h) {
#pragma unroll
                for (int e = 0; e < piece; ++e) scores[j][h] = fmaf(q[h][i][e], k[e], scores[j][h]);
            }
        }
#pragma unroll
        for (int h = 0; h < heads; ++h) {
            scores[j][h] = group_sum(scores[j][h]);
            if (row_at(span, number, j) >= span.stop) scores[j][h] = -infinity();
        }
    }
#pragma unroll
    for (int h = 0; h < heads; ++h) {
        float greatest = found.greatest[h];
#pragma unroll
        for (int j = 0; j < rows; ++j) greatest = fmaxf(greatest, scores[j][h]);
        const float kept = share_of(found.greatest[h], greatest);
        found.greatest[h] = greatest;
        found.sum[h] *= kept;
#pragma unroll
        for (int i = 0; i < held; ++i) {
#pragma unroll
            for (int e = 0; e < piece; ++e) found.weighted[h][i][e] *= kept;
        }
#pragma unroll
        for (int j = 0; j < rows; ++j) {
            scores[j][h] = share_of(scores[j][h], greatest);
            found.sum[h] += scores[j][h];
        }
    }
#pragma unroll
    for (int j = 0; j < rows; ++j) {
#pragma unroll
        for (int i = 0; i < held; ++i) {
            float v[piece];
            widen<Stored>(tile.v[j][i], v);
#pragma unroll
            for (int h = 0; h < heads; ++h) {
#pragma unroll
                for (int e = 0; e < piece; ++e) {
                    found.weighted[h][i][e] = fmaf(scores[j][h], v[e], found.weighted[h][i][e]);
                }
            }
        }
    }
}

// Merges what the groups of a warp have found; every group has the whole afterwards.
__device__ __forceinline__ void merge_groups(Found& found) {
#pragma unroll
    for (int h = 0; h < heads; ++h) {
        float greatest = found.greatest[h];
#pragma unroll
        for (int distance = lanes; distance < 32; distance *= 2) {
            greatest = fmaxf(greatest, __shfl_xor_sync(~0u, greatest, distance));
        }
        const float share = share_of(found.greatest[h], greatest);
        found.greatest[h] = greatest;
        found.sum[h] *= share;
#pragma unroll
        for (int distance = lanes; distance < 32; distance *= 2) {
            found.sum[h] += __shfl_xor_sync(~0u, found.sum[h], distance);
        }
#pragma unroll
        for (int i = 0; i < held; ++i) {
#pragma unroll
            for (int e = 0; e < piece; ++e) {
                float x = found.weighted[h][i][e] * share;
#pragma unroll
                for (int distance = lanes; distance < 32; distance *= 2) x += __shfl_xor_sync(~0u, x, distance);
                found.weighted[h][i][e] = x;
            }
        }
    }
}

// What the warps have found, in shared memory.
struct Results {
    float weighted[warps][heads][Dims::HD], greatest[warps][heads], sum[warps][heads];
};

// What the CTA has found for one element of one head.
struct Merged {
    float greatest, sum, weighted;
};

__device__ __forceinline__ void publish(const Found& found, Results& results) {
    const int warp = thread_of<Launch>() / 32;
    if (thread_of<Launch>() % 32 >= lanes) return;
#pragma unroll
    for (int h = 0; h < heads; ++h) {
        if (lane() == 0) {
            results.greatest[warp][h] = found.greatest[h];
            results.sum[warp][h] = found.sum[h];
        }
#pragma unroll
        for (int i = 0; i < held; ++i) {
            if (in_row(i)) store_floats(&results.weighted[warp][h][element_at(i)], found.weighted[h][i]);
        }
    }
}

__device__ __forceinline__ Merged merged(const Results& results, int h, int element) {
    Merged all = {-infinity(), 0.0f, 0.0f};
#pragma unroll
    for (int warp = 0; warp < warps; ++warp) all.greatest = fmaxf(all.greatest, results.greatest[warp][h]);
#pragma unroll
    for (int warp = 0; warp < warps; ++warp) {
        const float share = share_of(results.greatest[warp][h], all.greatest);
        all.sum = fmaf(share, results.sum[warp][h], all.sum);
        all.weighted = fmaf(share, results.weighted[warp][h][element], all.weighted);
    }
    return all;
}

// Rows before the present one, of the CTA's first item: as many as fit in registers. The others are loaded in attend.
__device__ __forceinline__ void load_past(const Arguments& a, Locals& l) {
    const int position = a.pos();
    const Item item = item_at(least(cta_of<Launch>(), items - 1));
    const Span span = span_of(item, position);
    load_tile(a, item.kv, span, 0, least(span.stop, position), l.past);
}

// Calls write(item, h, element, merged) for every element of the result.
template <class F> __device__ __forceinline__ void attend_with(const Arguments& a, Locals& l, F write) {
    __shared__ __align__(16) Results results;
    const int position = a.pos();
    const float scale = 1.0f / sqrtf(static_cast<float>(Dims::HD));
#pragma unroll 1
    for (int number = cta_of<Launch>(); number < items; number += ctas) {
        const Item item = item_at(number);
        const Span span = span_of(item, position);
        if (items <= ctas || number == cta_of<Launch>()) {
#pragma unroll
            for (int j = 0; j < rows; ++j) {
                const int row = row_at(span, 0, j);
                if (row == position && row < span.stop) load_row(a, item.kv, row, true, l.past, j);
            }
        } else {
            load_tile(a, item.kv, span, 0, span.stop, l.past);
        }

        float q[heads][held][piece];
        Found found = {};
#pragma unroll
        for (int h = 0; h < heads; ++h) {
            found.greatest[h] = -infinity();
            const float* head = a.q + least(item.first_head + h, Dims::H - 1) * Dims::HD;
#pragma unroll
            for (int i = 0; i < held; ++i) {
                load_floats(head + element_at(i), q[h][i], in_row(i));
#pragma unroll
                for (int e = 0; e < piece; ++e) q[h][i][e] *= scale;
            }
        }

        // As many tiles for every thread, since the lanes of a warp exchange their sums.
        const int tiles = ceil_div(span.stop - span.first, rows * groups);
#pragma unroll 1
        for (int tile = 0; tile < tiles; ++tile) {
            if constexpr (most_tiles > 1) {
                Tile next;
                load_tile(a, item.kv, span, tile + 1, span.stop, next);
                attend_tile(l.past, q, span, tile, found);
                l.past = next;
            } else {
                attend_tile(l.past, q, span, tile, found);
            }
        }
        merge_groups(found);
        publish(found, results);
        __syncthreads();
        for (int i = thread_of<Launch>(); i < heads * Dims::HD; i += Launch::threads) {
            const int h = i / Dims::HD, element = i % Dims::HD;
            if (has_head(item, h)) write(item, h, element, merged(results, h, element));
        }
        if (items > ctas) __syncthreads();
    }
}
