// y = x w^T, plus a residual or a bias: the rows of a batch times weights, by the tensor cores.
//
// A CTA makes a tile of y after another. Tiles of x and w pass through a ring of stages in shared memory, which copies of
// 16 bytes fill. Up to `few` rows have tiles of 16 rows and few columns, so that many CTAs read weights; more rows have
// tiles of 128 by 128. Either way a result is one chain of products of 16 elements, in the order of the columns of w, so
// its bits depend neither on the tile nor on the other rows.

#include "copy_groups.cuh"
#include "tensor_core.cuh"

using Element = Types::x;
static_assert(is_same<Element, Types::w> && sizeof(Element) == 2, "rows and weights are both bf16, or both f16");
static_assert(Dims::K % 8 == 0, "rows are pieces of 16 bytes");
static_assert(Launch::threads == 256, "eight warps share a tile");

struct Locals {};

constexpr int few = 64;

// A tile of rows by columns, of which a warp has warp_rows by warp_columns; a stage has `depth` elements of each row.
template <int rows_, int columns_, int depth_, int warp_rows_, int warp_columns_> struct Tile {
    static constexpr int rows = rows_, columns = columns_, depth = depth_;
    static constexpr int warp_rows = warp_rows_, warp_columns = warp_columns_;
    static constexpr int warps_across = columns / warp_columns, warps = rows / warp_rows * warps_across;
    static constexpr int row_bytes = depth * 2, pieces = depth / 8;
    static constexpr int stage_bytes = (rows + columns) * row_bytes;
    static constexpr int stages = least(8, Launch::shared_bytes / stage_bytes);
    static constexpr int steps = ceil_div(Dims::K, depth);
    static_assert(stages >= 2, "a tile needs two stages in shared memory");
    static_assert(warps * 32 <= Launch::threads && depth % 64 == 0, "a tile fits its warps");
};

using Large = Tile<128, 128, 64, 64, 32>;
constexpr int small_columns = Dims::N >= 64 * 128 ? 64 : Dims::N >= 32 * 128 ? 32 : 16;
using Small = Tile<16, small_columns, 8192 / small_columns, 16, 8>;

// Where a piece of a row lies in a stage: pieces change places, so that those of eight rows lie in different banks.
template <class T> __device__ __forceinline__ int place_of(int row, int piece) {
    return row * T::row_bytes + (piece ^ row % 8) * 16;
}

// Begins to copy the elements from `first` on of some rows; zeros behind their ends, and where there is no row.
template <class T, int count>
__device__ __forceinline__ void copy_rows(unsigned char* to, const Element* rows, int present, int first) {
    constexpr int all = count * T::pieces;
#pragma unroll
    for (int i = 0; i < ceil_div(all, Launch::threads); ++i) {
        const int number = i * Launch::threads + thread_of<Launch>();
        if (all % Launch::threads != 0 && number >= all) break;
        const int row = number / T::pieces, piece = number % T::pieces, element = first + 8 * piece;
        const bool wanted = row < present && (Dims::K % T::depth == 0 || element < Dims::K);
        begin_copy16(to + place_of<T>(row, piece), rows + (wanted ? static_cast<long long>(row) * Dims::K + element : 0), wanted);
    }
}

// What has to be known of a tile.
struct Part {
    int first_row, first_column, rows, columns;  // of y; those that there are
};

template <class T, class A> __device__ __forceinline__ void copy_stage(const A& a, const Part& part, int step) {
    if (step < T::steps) {
        unsigned char* to = dynamic_shared + step % T::stages * T::stage_bytes;
        const int first = step * T::depth;
        copy_rows<T, T::rows>(to, a.x + static_cast<long long>(part.first_row) * Dims::K, part.rows, first);
        copy_rows<T, T::columns>(
            to + T::rows * T::row_bytes, a.w + static_cast<long long>(part.first_column) * Dims::K, part.columns, first);
    }
    end_copy_group();
}

template <class T> struct Sums {
    float of[T::warp_rows / 16][T::warp_columns / 8][4];
};

// Adds the products of a stage, 16 elements after 16 elements.
template <class T> __device__ __forceinline__ void multiply_stage(int step, int row, int column, Sums<T>& sums) {
    const unsigned char* x = dynamic_shared + step % T::stages * T::stage_bytes;
    const unsigned char* w = x + T::rows * T::row_bytes;
    const int lane = thread_of<Launch>() % 32;
#pragma unroll(T::warp_columns == 8 ? 4 : T::depth / 32)
    for (int k = 0; k < T::depth / 32; ++k) {
        unsigned of_x[2][T::warp_rows / 16][4], of_w[T::warp_columns / 8][4];
        // A matrix of w has eight columns of y; four of them are 32 elements.
#pragma unroll
        for (int j = 0; j < T::warp_columns / 8; ++j) {
            load_matrices(w + place_of<T>(column + 8 * j + lane % 8, 4 * k + lane / 8), of_w[j]);
        }
#pragma unroll
        for (int half = 0; half < 2; ++half) {
#pragma unroll
            for (int i = 0; i < T::warp_rows / 16; ++i) {
                load_matrices(x + place_of<T>(row + 16 * i + lane % 16, 4 * k + 2 * half + lane / 16), of_x[half][i]);
            }
#pragma unroll
            for (int i = 0; i < T::warp_rows / 16; ++i) {
#pragma unroll
                for (int j = 0; j < T::warp_columns / 8; ++j) {
                    multiply_add<Element>(sums.of[i][j], of_x[half][i], of_w[j][2 * half], of_w[j][2 * half + 1]);
                }
            }
        }
    }
}

// What is added to the products: a residual or a bias if the kernel has one.
template <int rank> struct Rank : Rank<rank - 1> {};
template <> struct Rank<0> {};
template <class A> __device__ __forceinline__ auto added(const A& a, int row, int column, Rank<2>) -> decltype(*a.residual + 0.0f) {
    return load_global(a.residual + static_cast<long long>(row) * Dims::N + column);
}
template <class A> __device__ __forceinline__ auto added(const A& a, int, int column, Rank<1>) -> decltype(*a.bias + 0.0f) {
    return load_global(a.bias + column);
}
template <class A> __device__ __forceinline__ float added(const A&, int, int, Rank<0>) { return 0.0f; }

template <class T, class A>
__device__ __forceinline__ void write_sums(const A& a, const Part& part, int row, int column, const Sums<T>& sums) {
    const int lane = thread_of<Launch>() % 32;
#pragma unroll
    for (int i = 0; i < 2 * (T::warp_rows / 16); ++i) {
        const int r = row + 8 * i + lane / 4;
        if (r >= part.rows) continue;
#pragma unroll
        for (int j = 0; j < T::warp_columns / 8; ++j) {
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

template <class T, class A> __device__ __forceinline__ void multiply_part(const A& a, const Part& part) {
    const int warp = thread_of<Launch>() / 32;
    const int row = warp / T::warps_across * T::warp_rows, column = warp % T::warps_across * T::warp_columns;
    const bool has_part = warp < T::warps && row < part.rows && column < part.columns;
    Sums<T> sums = {};
#pragma unroll 1
    for (int step = 0; step < T::stages - 1; ++step) copy_stage<T>(a, part, step);
#pragma unroll 1
    for (int step = 0; step < T::steps; ++step) {
        await_copy_groups<T::stages - 2>();
        __syncthreads();  // all have waited for their copies, and are through with the stage that is filled next
        copy_stage<T>(a, part, step + T::stages - 1);
        if (has_part) multiply_stage<T>(step, row, column, sums);
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

template <class A> __device__ __forceinline__ void multiply(const A& a, Locals&) {
    const int rows = least(load_global(a.rows), Dims::Q);
    if (rows <= few) multiply_rows<Small>(a, rows);
    else multiply_rows<Large>(a, rows);
}
