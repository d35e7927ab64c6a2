// y[b] = table[tokens[index, b]], in f32.

struct Locals {};

__device__ __forceinline__ void gather(const Arguments& a, Locals&) {
    const Types::tokens* tokens = a.tokens + a.index() * Dims::B;
    for_each_element<Launch, Dims::B * Dims::D>([&](int, int i) {
        const Types::table* row = a.table + static_cast<long long>(load_global(tokens + i / Dims::D)) * Dims::D;
        a.y[i] = widened(load_global(row + i % Dims::D));
    });
}
