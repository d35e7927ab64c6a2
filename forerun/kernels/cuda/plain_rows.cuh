// Rows of elements of type W: how a warp takes a tile of them, and multiplies it by its part of the vector.

template <class W, int columns> struct PlainRows {
    // A tile: what a warp takes of a row. Warps share a row that is longer than 4 KB.
    __device__ static constexpr int warps_a_row() {
        int count = 1;
        while (columns * static_cast<int>(sizeof(W)) > 4096 * count) count *= 2;
        return count;
    }
    static constexpr int split = warps_a_row();
    static constexpr int tile = columns / split;  // elements
    static constexpr int tile_bytes = tile * static_cast<int>(sizeof(W));
    static constexpr int row_bytes = columns * static_cast<int>(sizeof(W));
    static_assert(
        tile * split == columns && tile_bytes % 16 == 0, "rows, and their parts, must be multiples of 16 bytes");

    // What a lane takes at once: of the vector this is 16 bytes, so that the lanes of a warp read without gaps.
    static constexpr int piece = 4;  // elements
    static constexpr int pieces = tile / piece;
    static constexpr int steps = ceil_div(pieces, 32);

    // What a lane has of the vector: the pieces by which it multiplies those of a tile.
    using Vector = float[steps][piece];

    // What a lane has of a tile in the ring.
    struct alignas(sizeof(W) * piece) Piece {
        unsigned words[sizeof(W) * piece / 4];
    };
    using Pieces = Piece[steps];

    static constexpr int most_at_once = 1;

    // The vector in shared memory, if it is there.
    static constexpr bool needs_shared_vector = false;
    static constexpr int vector_bytes = columns * static_cast<int>(sizeof(float));

    __device__ __forceinline__ static bool in_tile(int step, int lane) {
        return (step + 1) * 32 <= pieces || step * 32 + lane < pieces;
    }
    __device__ __forceinline__ static int element_at(int step, int part, int lane) {
        return part * tile + (step * 32 + lane) * piece;
    }

    __device__ __forceinline__ static void load(const float* vector, int part, int lane, Vector& x) {
#pragma unroll
        for (int step = 0; step < steps; ++step) {
            load_floats(vector + element_at(step, part, lane), x[step], in_tile(step, lane));
        }
    }

    // Puts a thread's share of the vector into shared memory; then, after a barrier, a lane gets its pieces from there.
    __device__ __forceinline__ static void put(unsigned char* shared, int column, const float (&share)[4]) {
        if (column < columns) store_floats(reinterpret_cast<float*>(shared) + column, share);
    }
    __device__ __forceinline__ static void get(const unsigned char* shared, int part, int lane, Vector& x) {
        const float* vector = reinterpret_cast<const float*>(shared);
#pragma unroll
        for (int step = 0; step < steps; ++step) {
            const float4 v = in_tile(step, lane)
                                 ? *reinterpret_cast<const float4*>(vector + element_at(step, part, lane))
                                 : float4{};
            x[step][0] = v.x;
            x[step][1] = v.y;
            x[step][2] = v.z;
            x[step][3] = v.w;
        }
    }

    __device__ __forceinline__ static void take(const unsigned char* from, int lane, Pieces& w) {
        const Piece* tile = reinterpret_cast<const Piece*>(from);
#pragma unroll
        for (int step = 0; step < steps; ++step) {
            w[step] = in_tile(step, lane) ? tile[step * 32 + lane] : Piece{};
        }
    }

    // Several sums at a time: a chain of additions takes longer than the copy of a tile.
    __device__ __forceinline__ static float multiplied(const Pieces& w, const Vector& x) {
        float products[piece] = {};
#pragma unroll
        for (int step = 0; step < steps; ++step) {
            float elements[piece];
            if constexpr (sizeof(Piece) == 8) widen<W>({w[step].words[0], w[step].words[1], 0, 0}, elements);
            else memcpy(elements, w[step].words, sizeof(Piece));
#pragma unroll
            for (int i = 0; i < piece; ++i) products[i] = fmaf(elements[i], x[step][i], products[i]);
        }
        return (products[0] + products[1]) + (products[2] + products[3]);
    }

    // What a lane has of the product of a row.
    __device__ __forceinline__ static void multiply(
        const unsigned char* tile, int, const unsigned char*, int, int lane, const Vector& x, float (&values)[1]) {
        Pieces w;
        take(tile, lane, w);
        values[0] = multiplied(w, x);
    }
};
