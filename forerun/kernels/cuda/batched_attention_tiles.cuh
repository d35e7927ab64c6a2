// Tiles of rows of keys and values, and what a query finds in them, in two ways: by sums of each thread, for any type,
// or by the tensor cores, for types that they multiply. batched_attention.cu takes one of them; the rest of it is the
// same.
//
// A way has
//     Tile, Query, Found       what a lane has of a tile, of the queries of a KV head, and has found so far
//     tile_rows                rows of a tile, of all warps of the CTA
//     tiles_ahead              tiles of a span that are on their way
//     spans_ahead              spans whose first tiles are on their way before the wait
//     load(...)                loads the rows of a tile that are wanted
//     attend(...)              adds a tile to what was found
//     leave(...)               leaves what a warp has found for the CTA

// The rows of a KV head, from the first one on.
struct Cache {
    const Stored *k, *v;
    __device__ __forceinline__ long long at(bool wanted, int row) const {
        return static_cast<long long>(wanted ? row : 0) * (Dims::KV * Dims::HD);
    }
};

// To powers of two, and divided by the root of the head's size.
__device__ __forceinline__ float scale_of_query() {
    return 1.4426950408889634f / sqrtf(static_cast<float>(Dims::HD));
}

using TileOfSums = Tile;
using FoundOfSums = Found;
struct Sums {
    using Tile = TileOfSums;
    using Found = FoundOfSums;
    struct Query {
        float q[heads][piece];
    };
    static constexpr int tile_rows = rows * groups, tiles_ahead = ahead, spans_ahead = 1;

    static __device__ __forceinline__ void load_query(const float* from, Query& query) {
#pragma unroll
        for (int h = 0; h < heads; ++h) load_floats(from + h * Dims::HD + lane() * piece, query.q[h]);
#pragma unroll
        for (int h = 0; h < heads; ++h) {
#pragma unroll
            for (int e = 0; e < piece; ++e) query.q[h][e] *= scale_of_query();
        }
    }
    static __device__ __forceinline__ Found nothing() {
        Found found = {};
#pragma unroll
        for (int h = 0; h < heads; ++h) found.greatest[h] = lowest();
        return found;
    }
    // The others stay as they are if the tile keeps them.
    template <bool keeps, class F>
    static __device__ __forceinline__ void load(
        const Cache& cache, const Span& span, int number, Tile& tile, F is_wanted) {
#pragma unroll
        for (int j = 0; j < rows; ++j) {
            const int row = row_at(span, number, j);
            const bool wanted = is_wanted(row);
            if (keeps && !wanted) continue;
            tile.k[j] = load16_once(cache.k + cache.at(wanted, row) + lane() * piece, wanted);
            tile.v[j] = load16_once(cache.v + cache.at(wanted, row) + lane() * piece, wanted);
        }
    }
    static __device__ __forceinline__ void attend(
        const Tile& tile, const Query& query, const Span& span, int number, Found& found) {
        attend_tile(tile, query.q, span, number, found);
    }
    static __device__ __forceinline__ void leave(Found& found, Exchange& shared) {
        merge_groups(found);
        publish(found, shared);
    }
};

// In mma.m16n8k16 the left operand has the queries of up to eight heads, in rows h and h + 8 what is rounded and what
// is left (batched_halves.cuh), and then their weights of the rows: what a lane gets of the scores is what it has to
// give of the weights. The right operand has keys, a row a column, and then values, in which rows are pairs. A warp
// takes 16 rows. Lane l is number l / 4 of eight, the head or the key, and l % 4 of four, the elements or the rows.
template <class T> struct Products {
    static constexpr int steps = Dims::HD / 32, passes = ceil_div(Dims::HD, 64);
    static constexpr int warp_rows = 16, tile_rows = warp_rows * warps;
    // As many as the registers hold.
    static constexpr int tiles_ahead = Dims::HD <= 64 && Launch::cluster > 8 ? 2 : 1;
    static constexpr int spans_ahead = Dims::HD <= 64 && tiles_ahead == 1 && spans_a_cta == 2 ? 2 : 1;

    struct Tile {
        uint4 k[2][steps], v[passes][4];
    };
    struct Query {
        unsigned words[steps][2][4];
    };
    struct Found {
        float greatest, sum, weighted[passes][8][4];
    };

    static __device__ __forceinline__ int eighth() { return thread_of<Launch>() % 32 / 4; }
    static __device__ __forceinline__ int fourth() { return thread_of<Launch>() % 4; }

    static __device__ __forceinline__ void load_query(const float* from, Query& query) {
        float q[steps][8];
#pragma unroll
        for (int step = 0; step < steps; ++step) {
            load_floats(from + eighth() * Dims::HD + step * 32 + fourth() * 8, q[step], eighth() < heads);
        }
#pragma unroll
        for (int step = 0; step < steps; ++step) {
#pragma unroll
            for (int pair = 0; pair < 4; ++pair) {
                const uint2 halves = divided<T>(
                    q[step][2 * pair] * scale_of_query(), q[step][2 * pair + 1] * scale_of_query());
                query.words[step][pair / 2][pair % 2 * 2] = halves.x;
                query.words[step][pair / 2][pair % 2 * 2 + 1] = halves.y;
            }
        }
    }
    static __device__ __forceinline__ Found nothing() {
        Found found = {};
        found.greatest = lowest();
        return found;
    }

    static __device__ __forceinline__ int first_row(const Span& span, int number) {
        return span.first + number * tile_rows + thread_of<Launch>() / 32 * warp_rows;
    }
    // The others stay as they are if the tile keeps them.
    template <bool keeps, class F>
    static __device__ __forceinline__ void load(
        const Cache& cache, const Span& span, int number, Tile& tile, F is_wanted) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            const int row = first_row(span, number) + 8 * j + eighth();
            const bool wanted = is_wanted(row);
            if (keeps && !wanted) continue;
            const T* from = cache.k + cache.at(wanted, row) + fourth() * 8;
#pragma unroll
            for (int step = 0; step < steps; ++step) tile.k[j][step] = load16_once(from + step * 32, wanted);
        }
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const int row = first_row(span, number) + j / 2 * 8 + fourth() * 2 + j % 2;
            const bool wanted = is_wanted(row);
            if (keeps && !wanted) continue;
            const T* from = cache.v + cache.at(wanted, row) + eighth() * 8;
#pragma unroll
            for (int pass = 0; pass < passes; ++pass) {
                tile.v[pass][j] = load16_once(from + pass * 64, wanted && pass * 64 + eighth() * 8 < Dims::HD);
            }
        }
    }

    // Element e of two rows.
    static __device__ __forceinline__ unsigned pair_of(const uint4& first, const uint4& second, int e) {
        const unsigned a[] = {first.x, first.y, first.z, first.w}, b[] = {second.x, second.y, second.z, second.w};
        if (e % 2) return a[e / 2] >> 16 | (b[e / 2] & 0xFFFF0000u);
        return (a[e / 2] & 0xFFFFu) | b[e / 2] << 16;
    }

    static __device__ __forceinline__ void attend(
        const Tile& tile, const Query& query, const Span& span, int number, Found& found) {
        float scores[2][2], greatest = found.greatest;
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            float c[4] = {};
#pragma unroll
            for (int step = 0; step < steps; ++step) {
                const uint4& k = tile.k[j][step];
                multiply_add<T>(c, query.words[step][0], k.x, k.y);
                multiply_add<T>(c, query.words[step][1], k.z, k.w);
            }
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const int row = first_row(span, number) + 8 * j + fourth() * 2 + i;
                scores[j][i] = row < span.stop ? c[i] + c[i + 2] : -infinity();
                greatest = fmaxf(greatest, scores[j][i]);
            }
        }
#pragma unroll
        for (int distance = 1; distance < 4; distance *= 2) {
            greatest = fmaxf(greatest, __shfl_xor_sync(~0u, greatest, distance));
        }
        const float kept = exp2f(found.greatest - greatest);
        found.greatest = greatest;
        found.sum *= kept;
        unsigned weights[4];
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            const float first = exp2f(scores[j][0] - greatest), second = exp2f(scores[j][1] - greatest);
            found.sum += first + second;
            const uint2 halves = divided<T>(first, second);
            weights[2 * j] = halves.x;
            weights[2 * j + 1] = halves.y;
        }
#pragma unroll
        for (int pass = 0; pass < passes; ++pass) {
            const uint4(&v)[4] = tile.v[pass];
#pragma unroll
            for (int e = 0; e < 8; ++e) {
                float(&c)[4] = found.weighted[pass][e];
#pragma unroll
                for (int i = 0; i < 4; ++i) c[i] *= kept;
                multiply_add<T>(c, weights, pair_of(v[0], v[1], e), pair_of(v[2], v[3], e));
            }
        }
    }

    // A lane has 16 neighbouring elements of a head.
    static __device__ __forceinline__ void leave(Found& found, Exchange& shared) {
        const int warp = thread_of<Launch>() / 32, h = eighth();
#pragma unroll
        for (int distance = 1; distance < 4; distance *= 2) {
            found.sum += __shfl_xor_sync(~0u, found.sum, distance);
        }
        if (h >= heads) return;
        if (fourth() == 0) {
            shared.greatest[warp][h] = found.greatest;
            shared.sum[warp][h] = found.sum;
        }
#pragma unroll
        for (int pass = 0; pass < passes; ++pass) {
            const int first = pass * 64 + fourth() * 16;
            if (first >= Dims::HD) continue;
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                float eight[8];
#pragma unroll
                for (int e = 0; e < 8; ++e) eight[e] = found.weighted[pass][e][i] + found.weighted[pass][e][i + 2];
                store_floats(&shared.weighted[warp][h][first + 8 * i], eight);
            }
        }
    }
};

template <bool by_tensor_cores> struct WayOf {
    using Type = Sums;
};
template <> struct WayOf<true> {
    using Type = Products<Stored>;
};
using Way = WayOf<sizeof(Stored) == 2 && Dims::HD % 32 == 0>::Type;
