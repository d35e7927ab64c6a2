// y = factor * a + b.

struct Locals {
    float first[elements_a_thread<Launch, Dims::N>];
};

__device__ __forceinline__ void load(const Arguments& a, Locals& l) {
    for_each_element<Launch, Dims::N>([&](int slot, int i) { l.first[slot] = load_global(a.a + i); });
}

__device__ __forceinline__ void add(const Arguments& a, Locals& l) {
    const float factor = a.factor();
    for_each_element<Launch, Dims::N>([&](int slot, int i) { a.y[i] = fmaf(factor, l.first[slot], load_global(a.b + i)); });
}
