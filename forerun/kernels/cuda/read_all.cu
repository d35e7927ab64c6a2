// y[row] = exclusive or of the words of a row. It is there to read memory as fast as it can be read: a CTA has a row at a
// time, and a thread eight loads of 16 bytes on their way.

struct Locals {};

__device__ __forceinline__ unsigned exclusive_or_of_cta(unsigned x) {
    static_assert(has_whole_warps<Launch>, "a reduction needs whole warps");
    __shared__ unsigned parts[warps_of<Launch>];
    const int thread = thread_of<Launch>();
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) x ^= __shfl_xor_sync(~0u, x, distance);
    __syncthreads();  // the row before is done with
    if (thread % 32 == 0) parts[thread / 32] = x;
    __syncthreads();
    x = 0;
    for (int warp = 0; warp < warps_of<Launch>; ++warp) x ^= parts[warp];
    return x;
}

__device__ __forceinline__ unsigned exclusive_or_of_pieces(const int* row) {
    constexpr int pieces = Dims::words / 4, ahead = 8;
    unsigned found = 0;
    for (int first = thread_of<Launch>(); first < pieces; first += ahead * Launch::threads) {
        uint4 v[ahead];
#pragma unroll
        for (int i = 0; i < ahead; ++i) {
            const int piece = first + i * Launch::threads;
            v[i] = load16_once(row + 4 * piece, piece < pieces);
        }
#pragma unroll
        for (int i = 0; i < ahead; ++i) found ^= v[i].x ^ v[i].y ^ v[i].z ^ v[i].w;
    }
    return found;
}

__device__ __forceinline__ void digest(const Arguments& a, Locals&) {
    for (int number = cta_of<Launch>(); number < Dims::rows; number += ctas_of<Launch>) {
        const int* row = a.x + static_cast<long long>(number) * Dims::words;
        unsigned found = 0;
        if constexpr (Dims::words % 4 == 0) {
            found = exclusive_or_of_pieces(row);
        } else {
            for (int i = thread_of<Launch>(); i < Dims::words; i += Launch::threads) {
                found ^= static_cast<unsigned>(load_global(row + i));
            }
        }
        found = exclusive_or_of_cta(found);
        if (thread_of<Launch>() == 0) a.y[number] = static_cast<int>(found);
    }
}
