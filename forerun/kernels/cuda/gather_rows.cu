// y[r] = table[index[r]] in f32, a CTA a row; 0 where the index is outside of the table.

struct Locals {};

__device__ __forceinline__ void gather(const Arguments& a, Locals&) {
    const int rows = least(load_global(a.rows), Dims::Q);
#pragma unroll 1
    for (int row = cta_of<Launch>(); row < rows; row += ctas_of<Launch>) {
        const int index = load_global(a.index + row);
        const bool is_inside = index >= 0 && index < Dims::V;
        const Types::table* from = a.table + static_cast<long long>(is_inside ? index : 0) * Dims::D;
        float* to = a.y + static_cast<long long>(row) * Dims::D;
#pragma unroll 4
        for (int i = thread_of<Launch>(); i < Dims::D; i += Launch::threads) {
            to[i] = is_inside ? widened(load_global(from + i)) : 0.0f;
        }
    }
}
