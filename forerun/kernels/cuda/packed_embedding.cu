// y = table[token], in f32, for rows of quantised blocks.

#include "packed_rows.cuh"

using Rows = PackedRows<PackingOf<Dims>, Dims::D>;

struct Locals {};

__device__ __forceinline__ void gather(const Arguments& a, Locals&) {
    const unsigned char* row = a.table + static_cast<long long>(a.token()) * Rows::row_bytes;
    for_each_element<Launch, Dims::D>([&](int, int i) { a.y[i] = Rows::weight(row, i); });
}
