// y = x w^T, plus a residual or a bias: the rows of a batch times weights, by the tensor cores.
//
// A CTA makes a tile of y after another. Tiles of x and w pass through a ring of stages in shared memory, which copies
// of 16 bytes fill. The number of rows chooses among shapes of tiles: few rows have narrow ones, so that many CTAs read
// weights. In all of them a result is one chain of products of 16 elements, in the order of the columns of w, so its
// bits depend neither on the shape nor on the other rows.

#include "copy_groups.cuh"
#include "tensor_core.cuh"

using Element = Types::x;
static_assert(is_same<Element, Types::w> && sizeof(Element) == 2, "rows and weights are both bf16, or both f16");
static_assert(Dims::K % 8 == 0, "rows are pieces of 16 bytes");
static_assert(Launch::threads == 256, "eight warps share a tile");

struct Locals {};

// A tile of rows by columns, of which a warp has warp_rows by warp_columns. A stage has `depth` elements of each row; a
// warp loads `span` of them at once: a load brings four matrices of w, of 16 columns and 16 elements, or of 8 and 32.
template <int rows_, int columns_, int depth_, int warp_rows_, int warp_columns_> struct Tile {
    static constexpr int rows = rows_, columns = columns_, depth = depth_;
    static constexpr int warp_rows = warp_rows_, warp_columns = warp_columns_;
    static constexpr int warps_across = columns / warp_columns, warps = rows / warp_rows * warps_across;
    static constexpr int row_bytes = depth * 2, pieces = depth / 8;
    static constexpr int stage_bytes = (rows + columns) * row_bytes;
    static constexpr int stages = least(8, Launch::shared_bytes / stage_bytes);
    static constexpr int steps = ceil_div(Dims::K, depth);
    static constexpr int span = warp_columns % 16 == 0 ? 16 : 32, spans = depth / span;
    static_assert(spans % 2 == 0, "fragments take turns");
    static constexpr int parts_of_x = warp_rows / 16, parts_of_w = warp_columns / 8;
    static_assert(stages >= 2, "a tile needs two stages in shared memory");
    static_assert(warps * 32 <= Launch::threads && depth % 64 == 0, "a tile fits its warps");
};

// A depth that divides the columns, so that no stage is half empty: a multiple of 64.
__device__ constexpr int depth_for(int most) {
    int depth = most;
    while (ceil_div(Dims::K, 64) * 64 % depth != 0) depth -= 64;
    return depth;
}

constexpr int narrow = Dims::N >= 64 * 128 ? 64 : Dims::N >= 32 * 128 ? 32 : 16;
using Tiny = Tile<16, narrow, depth_for(8192 / narrow), 16, 8>;
using Small = Tile<64, narrow, depth_for(narrow == 64 ? 128 : 256), narrow, 8>;
using Medium = Tile<64, 64, depth_for(128), 32, 16>;
using Large = Tile<128, 128, 64, 64, 32>;

// Where a piece of a row lies in a stage: pieces change places, so that those of eight rows lie in different banks.
template <class T> __device__ __forceinline__ int place_of(int row, int piece) {
    return row * T::row_bytes + (piece ^ row % 8) * 16;
}

// Begins to copy the elements from `first` on of some rows; zeros behind their ends, and where there is no row.
template <class T, int count>
__device__ __forceinline__ void copy_rows(unsigned char* to, const Element* rows, int present, int first) {
    constexpr int all = count * T::pieces, rows_at_once = Launch::threads / T::pieces;
    constexpr bool is_even = Launch::threads % T::pieces == 0;  // then a thread has the same piece of all its rows
    const int thread = thread_of<Launch>();
#pragma unroll
    for (int i = 0; i < ceil_div(all, Launch::threads); ++i) {
        const int number = i * Launch::threads + thread;
        if (all % Launch::threads != 0 && number >= all) break;
        const int row = is_even ? i * rows_at_once + thread / T::pieces : number / T::pieces;
        const int piece = is_even ? thread % T::pieces : number % T::pieces;
        const int element = first + 8 * piece;
        const bool wanted = row < present && (Dims::K % T::depth == 0 || element < Dims::K);
        begin_copy16(to + place_of<T>(row, piece), rows + (static_cast<long long>(row) * Dims::K + element), wanted);
    }
}

// What has to be known of a tile.
struct Part {
    int first_row, first_column, rows, columns;  // of y; those that there are
};

template <class T> __device__ __forceinline__ unsigned char* stage_of(int step) {
    return dynamic_shared + step % T::stages * T::stage_bytes;
}

template <class T, class A> __device__ __forceinline__ void copy_stage(const A& a, const Part& part, int step) {
    if (step < T::steps) {
        unsigned char* to = stage_of<T>(step);
        const int first = step * T::depth;
        copy_rows<T, T::rows>(to, a.x + static_cast<long long>(part.first_row) * Dims::K, part.rows, first);
        to += T::rows * T::row_bytes;
        copy_rows<T, T::columns>(to, a.w + static_cast<long long>(part.first_column) * Dims::K, part.columns, first);
    }
    end_copy_group();
}

// A warp's part of x and w, for as many elements as it loads at once.
template <class T> struct Fragments {
    unsigned x[T::span / 16][T::parts_of_x][4];
    unsigned w[T::parts_of_w * T::span / 32][4];
};

// Rows and columns of the warp begin at multiples of eight, so a lane's row says how its pieces are placed.
template <class T>
__device__ __forceinline__ void load_fragments(int step, int span, int row, int column, Fragments<T>& f) {
    const unsigned char* x = stage_of<T>(step);
    const int lane = thread_of<Launch>() % 32;
    const unsigned char* of_x = x + (row + lane % 16) * T::row_bytes;
    constexpr bool is_wide = T::span == 16;
    const unsigned char* of_w = x + (T::rows + column + lane % 8 + (is_wide ? lane / 16 * 8 : 0)) * T::row_bytes;
    const int first = span * (T::span / 8), piece_of_w = first + (is_wide ? lane / 8 % 2 : lane / 8);
#pragma unroll
    for (int j = 0; j < T::parts_of_w * T::span / 32; ++j) {
        load_matrices(of_w + j * (is_wide ? 16 : 8) * T::row_bytes + (piece_of_w ^ lane % 8) * 16, f.w[j]);
    }
#pragma unroll
    for (int half = 0; half < T::span / 16; ++half) {
        const int place = (first + 2 * half + lane / 16 ^ lane % 8) * 16;
#pragma unroll
        for (int i = 0; i < T::parts_of_x; ++i) load_matrices(of_x + 16 * i * T::row_bytes + place, f.x[half][i]);
    }
}

template <class T> struct Sums {
    float of[T::parts_of_x][T::parts_of_w][4];
};

template <class T> __device__ __forceinline__ void multiply_fragments(const Fragments<T>& f, Sums<T>& sums) {
#pragma unroll
    for (int half = 0; half < T::span / 16; ++half) {
#pragma unroll
        for (int i = 0; i < T::parts_of_x; ++i) {
#pragma unroll
            for (int j = 0; j < T::parts_of_w; ++j) {
                const unsigned(&w)[4] = f.w[T::span == 16 ? j / 2 : j];
                const int word = 2 * (T::span == 16 ? j % 2 : half);
                multiply_add<Element>(sums.of[i][j], f.x[half][i], w[word], w[word + 1]);
            }
        }
    }
}

// What is added to the products: a residual or a bias if the kernel has one.
template <int rank> struct Rank : Rank<rank - 1> {};
template <> struct Rank<0> {};
template <class A>
__device__ __forceinline__ auto added(const A& a, int row, int column, Rank<2>) -> decltype(*a.residual + 0.0f) {
    return load_global(a.residual + static_cast<long long>(row) * Dims::N + column);
}
template <class A>
__device__ __forceinline__ auto added(const A& a, int, int column, Rank<1>) -> decltype(*a.bias + 0.0f) {
    return load_global(a.bias + column);
}
template <class A> __device__ __forceinline__ float added(const A&, int, int, Rank<0>) { return 0.0f; }

template <class T, class A>
__device__ __forceinline__ void write_sums(const A& a, const Part& part, int row, int column, const Sums<T>& sums) {
    const int lane = thread_of<Launch>() % 32;
#pragma unroll
    for (int i = 0; i < 2 * T::parts_of_x; ++i) {
        const int r = row + 8 * i + lane / 4;
        if (r >= part.rows) continue;
#pragma unroll
        for (int j = 0; j < T::parts_of_w; ++j) {
            const int c = column + 8 * j + lane % 4 * 2;
            const float* both = &sums.of[i / 2][j][i % 2 * 2];
            const int y_row = part.first_row + r, y_column = part.first_column + c;
            float* to = a.y + static_cast<long long>(y_row) * Dims::N + y_column;
            if (Dims::N % 2 == 0 && c < part.columns) {
                *reinterpret_cast<float2*>(to) = {both[0] + added(a, y_row, y_column, Rank<2>{}),
                                                  both[1] + added(a, y_row, y_column + 1, Rank<2>{})};
            } else {
                if (c < part.columns) to[0] = both[0] + added(a, y_row, y_column, Rank<2>{});
                if (c + 1 < part.columns) to[1] = both[1] + added(a, y_row, y_column + 1, Rank<2>{});
            }
        }
    }
}

// While a warp multiplies what it has loaded, the next elements are on their way to its registers.
template <class T, class A> __device__ __forceinline__ void multiply_part(const A& a, const Part& part) {
    const int warp = thread_of<Launch>() / 32;
    const int row = warp / T::warps_across * T::warp_rows, column = warp % T::warps_across * T::warp_columns;
    const bool has_part = warp < T::warps && row < part.rows && column < part.columns;
    Sums<T> sums = {};
    Fragments<T> fragments[2];
#pragma unroll 1
    for (int step = 0; step < T::stages - 1; ++step) copy_stage<T>(a, part, step);
    await_copy_groups<T::stages - 2>();
    __syncthreads();
    if (has_part) load_fragments<T>(0, 0, row, column, fragments[0]);
#pragma unroll 1
    for (int step = 0; step < T::steps; ++step) {
        copy_stage<T>(a, part, step + T::stages - 1);
#pragma unroll
        for (int span = 0; span < T::spans; ++span) {
            const bool is_last = span + 1 == T::spans;
            if (is_last) {
                await_copy_groups<T::stages - 2>();
                __syncthreads();  // the next stage is there, and all have loaded the last of this one
            }
            if (!has_part) continue;
            load_fragments<T>(step + is_last, is_last ? 0 : span + 1, row, column, fragments[(span + 1) % 2]);
            multiply_fragments<T>(fragments[span % 2], sums);
        }
    }
    if (has_part) write_sums<T>(a, part, row, column, sums);
    await_copy_groups<0>();
    __syncthreads();  // the ring is free for the next tile
}

// Tiles of the same columns are made at the same time, so that weights are read once.
template <class T, class A> __device__ __forceinline__ void multiply_rows(const A& a, int rows) {
    constexpr int across = ceil_div(Dims::N, T::columns);
    const int down = ceil_div(rows, T::rows);
#pragma unroll 1
    for (int tile = cta_of<Launch>(); tile < down * across; tile += ctas_of<Launch>) {
        const int first_row = tile % down * T::rows, first_column = tile / down * T::columns;
        multiply_part<T>(
            a, {first_row, first_column, least(T::rows, rows - first_row), least(T::columns, Dims::N - first_column)});
    }
}

// Tiles of a shape that rows make.
template <class T> __device__ __forceinline__ int tiles_of(int rows) {
    return ceil_div(rows, T::rows) * ceil_div(Dims::N, T::columns);
}

template <class A> __device__ __forceinline__ void multiply(const A& a, Locals&) {
    const int rows = least(load_global(a.rows), Dims::Q);
    if (rows <= Tiny::rows) multiply_rows<Tiny>(a, rows);
    else if (rows <= Small::rows) multiply_rows<Small>(a, rows);
    else if (tiles_of<Medium>(rows) <= ctas_of<Launch>) multiply_rows<Medium>(a, rows);
    else multiply_rows<Large>(a, rows);
}
