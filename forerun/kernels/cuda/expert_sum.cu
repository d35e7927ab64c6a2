// y = the sum of the rows of x, weighted by share.

struct Locals {};

__device__ __forceinline__ void total(const Arguments& a, Locals&) {
    for_each_element<Launch, Dims::N>([&](int, int i) {
        float sum = 0.0f;
#pragma unroll
        for (int s = 0; s < Dims::S; ++s) sum = fmaf(load_global(a.share + s), load_global(a.x + s * Dims::N + i), sum);
        a.y[i] = sum;
    });
}
