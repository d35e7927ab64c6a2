// y = w x. A warp keeps up to 8 pieces of 16 bytes a lane of each of a few rows in registers, loaded before it needs x:
// up to 16 KB a warp on their way at once, which is what it takes to keep the memory busy. Longer rows are shared by
// several warps. How many rows a warp has follows from the grid; what does not fit in registers is read in dot.

static_assert(has_whole_warps<Launch>, "rows belong to warps");
constexpr int warps = warps_of<Launch>;
constexpr int ctas = ctas_of<Launch>;

// A row: `steps` pieces a lane, of which `kept` are kept in registers.
constexpr int piece = piece_of_row<Types::w>(Dims::K);  // elements
constexpr int pieces = Dims::K / piece;
constexpr int most_kept = 8;
__device__ constexpr int warps_a_row() {
    int count = 1;
    while (count * 32 * most_kept < pieces && warps % (2 * count) == 0) count *= 2;
    return count;
}
constexpr int sharing = warps_a_row();
constexpr int steps = ceil_div(pieces, 32 * sharing);
constexpr int kept = least(steps, most_kept);

// A tile: `rows` rows of each group of warps that share them. A CTA has tile 0, and further ones if the grid is small.
constexpr int groups = warps / sharing;
constexpr int rows = least(power_of_two_from(ceil_div(Dims::N, groups * ctas)), kept > 4 ? 4 : 8);
constexpr int tiles = ceil_div(Dims::N, groups * ctas * rows);

// The sums of a warp's rows are spread over its lanes: lane i has those of rows i, 32 + i, ... of all its tiles.
constexpr int tiles_a_chunk = 32 / rows;
constexpr int chunks = ceil_div(tiles, tiles_a_chunk);

struct Locals {
    uint4 tile[rows][kept];
    float acc[chunks];
};

__device__ __forceinline__ int lane() { return thread_of<Launch>() % 32; }
__device__ __forceinline__ int group() { return thread_of<Launch>() / 32 / sharing; }
__device__ __forceinline__ int part_of_row() { return thread_of<Launch>() / 32 % sharing; }
__device__ __forceinline__ int first_row(int tile) {
    return ((tile * ctas + cta_of<Launch>()) * groups + group()) * rows;
}

// The lane's piece number `step`; the warps of a row take turns. Only the last step can lie beyond the row.
__device__ __forceinline__ int piece_at(int step) { return (step * sharing + part_of_row()) * 32 + lane(); }
__device__ __forceinline__ bool in_row(int step) {
    return (step + 1) * sharing * 32 <= pieces || piece_at(step) < pieces;
}

__device__ __forceinline__ uint4 weights(const Arguments& a, int row, int step) {
    // Past the last row the last one is read again, so that loads depend on nothing.
    const Types::w* w = a.w + static_cast<long long>(least(row, Dims::N - 1)) * Dims::K;
    return load_piece_once<Types::w, piece>(w + piece_at(step) * piece, in_row(step));
}

__device__ __forceinline__ void load_tile(const Arguments& a, Locals& l, int tile) {
#pragma unroll
    for (int r = 0; r < rows; ++r) {
#pragma unroll
        for (int step = 0; step < kept; ++step) l.tile[r][step] = weights(a, first_row(tile) + r, step);
    }
}

// x, in shared memory if there is room. The registers are full of weights: only a few pieces at a time could come from
// global memory. The quarters of a piece lie apart, so that the lanes of a warp read from different banks.
constexpr bool staged = piece > 1 && Dims::K * sizeof(float) <= 40960;
constexpr int quarters = staged ? piece / 4 : 1;
__shared__ float4 staged_x[quarters][staged ? pieces : 1];

__device__ __forceinline__ void stage(const Arguments& a) {
    if constexpr (staged) {
        for (int i = thread_of<Launch>(); i < pieces * quarters; i += Launch::threads) {
            copy16(&staged_x[i % quarters][i / quarters], a.x + 4 * i);
        }
        await_copies();
        __syncthreads();
    }
}

__device__ __forceinline__ void load_x(const Arguments& a, int step, float (&x)[piece]) {
    if constexpr (staged) {
#pragma unroll
        for (int i = 0; i < quarters; ++i) {
            const float4 v = in_row(step) ? staged_x[i][piece_at(step)] : float4{0.0f, 0.0f, 0.0f, 0.0f};
            x[4 * i] = v.x;
            x[4 * i + 1] = v.y;
            x[4 * i + 2] = v.z;
            x[4 * i + 3] = v.w;
        }
    } else {
        load_floats(a.x + piece_at(step) * piece, x, in_row(step));
    }
}

__device__ __forceinline__ float multiplied(const uint4& w, const float (&x)[piece], float sum) {
    float elements[piece];
    widen<Types::w>(w, elements);
#pragma unroll
    for (int i = 0; i < piece; ++i) sum = fmaf(elements[i], x[i], sum);
    return sum;
}

// Adds what the lane has of the rows of a tile that load_tile has loaded.
__device__ __forceinline__ void multiply(const Arguments& a, const Locals& l, int tile, float (&sums)[rows]) {
    float x[piece];
#pragma unroll
    for (int step = 0; step < kept; ++step) {
        load_x(a, step, x);
#pragma unroll
        for (int r = 0; r < rows; ++r) sums[r] = multiplied(l.tile[r][step], x, sums[r]);
    }
#pragma unroll 2
    for (int step = kept; step < steps; ++step) {
        load_x(a, step, x);
#pragma unroll
        for (int r = 0; r < rows; ++r) sums[r] = multiplied(weights(a, first_row(tile) + r, step), x, sums[r]);
    }
}

// The sums over the lanes of a warp, and over the warps that share the rows.
__device__ __forceinline__ void reduce(int tile, float (&sums)[rows]) {
#pragma unroll
    for (int r = 0; r < rows; ++r) sums[r] = warp_sum(sums[r]);
    if constexpr (sharing > 1) {
        // Tiles alternate between two copies: a warp is at most one barrier ahead of those that still read.
        __shared__ float partial[2][warps][rows];
#pragma unroll
        for (int r = 0; r < rows; ++r) {
            if (lane() == r) partial[tile % 2][thread_of<Launch>() / 32][r] = sums[r];
        }
        __syncthreads();
#pragma unroll
        for (int r = 0; r < rows; ++r) {
            sums[r] = 0.0f;
#pragma unroll
            for (int part = 0; part < sharing; ++part) sums[r] += partial[tile % 2][group() * sharing + part][r];
        }
    }
}

__device__ __forceinline__ void load_weights(const Arguments& a, Locals& l) { load_tile(a, l, 0); }

__device__ __forceinline__ void dot(const Arguments& a, Locals& l) {
    stage(a);
#pragma unroll(chunks <= 8 ? chunks : 1)
    for (int chunk = 0; chunk < chunks; ++chunk) {
        float acc = 0.0f;
#pragma unroll 1
        for (int tile = chunk * tiles_a_chunk; tile < least((chunk + 1) * tiles_a_chunk, tiles); ++tile) {
            if (tile > 0) load_tile(a, l, tile);
            float sums[rows] = {};
            multiply(a, l, tile, sums);
            reduce(tile, sums);
#pragma unroll
            for (int r = 0; r < rows; ++r) {
                if (lane() == (tile * rows + r) % 32) acc = sums[r];
            }
        }
        l.acc[chunk] = acc;
    }
}

__device__ __forceinline__ void store(const Arguments& a, Locals& l) {
    if (part_of_row() > 0) return;
#pragma unroll(chunks <= 8 ? chunks : 1)
    for (int chunk = 0; chunk < chunks; ++chunk) {
        const int tile = chunk * tiles_a_chunk + lane() / rows;
        const int row = first_row(tile) + lane() % rows;
        if (tile < tiles && row < Dims::N) a.y[row] = l.acc[chunk];
    }
}
