// Puts the parts of a split attention together: each weighs exp(its greatest score - the greatest of all). A part
// without rows has the score -infinity, and weighs nothing.

constexpr int elements = Dims::H * Dims::HD;

struct Locals {};

__device__ __forceinline__ float greatest_of(const Arguments& a, int part, int head) {
    return load_global(a.statistics + 2 * (part * Dims::H + head));
}

__device__ __forceinline__ void merge(const Arguments& a, Locals&) {
    for_each_element<Launch, elements>([&](int, int i) {
        const int head = i / Dims::HD;
        float greatest = -infinity(), sum = 0.0f, weighted = 0.0f;
#pragma unroll 16
        for (int part = 0; part < Dims::S; ++part) greatest = fmaxf(greatest, greatest_of(a, part, head));
#pragma unroll 16
        for (int part = 0; part < Dims::S; ++part) {
            const float share = expf(greatest_of(a, part, head) - greatest);
            sum = fmaf(share, load_global(a.statistics + 2 * (part * Dims::H + head) + 1), sum);
            weighted = fmaf(share, load_global(a.partial + part * elements + i), weighted);
        }
        a.y[i] = weighted / sum;
    });
}
