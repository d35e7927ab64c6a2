// The phases of forerun.kernels.builtin, for i32 and f32, bit for bit like the NumPy functions.
//
// All kernels work element by element: a thread keeps elements thread, thread + total, ... in registers, so any launch
// will do, and one buffer may be bound to two parameters. Buffers that overlap in part may not, if one is written.
// Integers wrap around (in unsigned arithmetic, since signed overflow is undefined); f32 rounds after every operation.

// What a kernel loads first: its parameter x, else a, else y.
template <int rank> struct Rank : Rank<rank - 1> {};
template <> struct Rank<0> {};
template <class A> __device__ __forceinline__ auto operand(const A& a, Rank<2>) -> decltype(a.x) { return a.x; }
template <class A> __device__ __forceinline__ auto operand(const A& a, Rank<1>) -> decltype(a.a) { return a.a; }
template <class A> __device__ __forceinline__ auto operand(const A& a, Rank<0>) -> decltype(a.y) { return a.y; }

template <class T> struct ElementOf;
template <class T> struct ElementOf<T*> { using type = T; };
template <class T> struct ElementOf<const T*> { using type = T; };
using Element = ElementOf<decltype(operand(*static_cast<const Arguments*>(nullptr), Rank<2>{}))>::type;

constexpr int total_threads = Launch::grid_x * Launch::grid_y * Launch::grid_z * Launch::threads;
constexpr int elements_a_thread = (Dims::n + total_threads - 1) / total_threads;
constexpr bool is_integer = Element(1) / Element(2) == Element(0);

struct Locals {
    Element loaded[elements_a_thread];
    Element combined[elements_a_thread];  // what store stores; until something is combined, what was loaded
};

// Calls f(slot, i) for each of the thread's elements i.
template <class F> __device__ __forceinline__ void for_each_element(F f) {
    const int first = cta_in_grid() * Launch::threads + thread_in_cta();
#pragma unroll(elements_a_thread <= 16 ? elements_a_thread : 1)
    for (int slot = 0; slot < elements_a_thread; ++slot) {
        const int i = first + slot * total_threads;
        if (i < Dims::n) f(slot, i);
    }
}

// p * x + q * y.
__device__ __forceinline__ int linear(int p, int x, int q, int y) {
    return static_cast<int>(static_cast<unsigned>(p) * static_cast<unsigned>(x) +
                            static_cast<unsigned>(q) * static_cast<unsigned>(y));
}
__device__ __forceinline__ float linear(float p, float x, float q, float y) {
    return __fadd_rn(__fmul_rn(p, x), __fmul_rn(q, y));
}
// A coefficient, which is another one in f32, where values have to stay bounded.
__device__ __forceinline__ constexpr Element factor(int integer, float real) {
    return is_integer ? static_cast<Element>(integer) : static_cast<Element>(real);
}

template <class A> __device__ __forceinline__ void load(const A& a, Locals& l) {
    const auto* x = operand(a, Rank<2>{});
    for_each_element([&](int slot, int i) { l.loaded[slot] = l.combined[slot] = load_global(x + i); });
}

template <class A> __device__ __forceinline__ void store(const A& a, Locals& l) {
    for_each_element([&](int slot, int i) { a.y[i] = l.combined[slot]; });
}

template <class A> __device__ __forceinline__ void add(const A& a, Locals& l) {
    for_each_element([&](int slot, int i) { a.y[i] = linear(Element(1), load_global(a.b + i), Element(1), l.loaded[slot]); });
}

template <class A> __device__ __forceinline__ void accumulate(const A& a, Locals& l) {
    for_each_element([&](int slot, int i) {
        a.y[i] = linear(factor(2, 0.5f), load_global(a.y + i), Element(1), l.loaded[slot]);
    });
}

template <class A> __device__ __forceinline__ void turn(const A& a, Locals&) {
    // A thread exchanges elements i and n - 1 - i, so that no other thread reads what it writes.
    for_each_element([&](int, int i) {
        const int j = Dims::n - 1 - i;
        if (i > j) return;
        const Element x = load_global(a.y + i), y = load_global(a.y + j);
        a.y[i] = linear(factor(3, -0.75f), y, Element(1), Element(1));
        a.y[j] = linear(factor(3, -0.75f), x, Element(1), Element(1));
    });
}

template <class A> __device__ __forceinline__ void combine(const A& a, Locals& l) {
    for_each_element([&](int slot, int i) {
        l.combined[slot] = linear(factor(5, 0.5f), l.loaded[slot], factor(-3, -0.25f), load_global(a.b + i));
    });
}

template <class A> __device__ __forceinline__ void difference(const A& a, Locals& l) {
    for_each_element([&](int slot, int i) { a.z[i] = linear(Element(1), l.combined[slot], Element(-1), l.loaded[slot]); });
}

template <class A> __device__ __forceinline__ void scale_row(const A& a, Locals& l) {
    auto* row = a.m + static_cast<long long>(a.row()) * Dims::n;
    for_each_element([&](int slot, int i) {
        row[i] = linear(factor(3, 0.5f), load_global(row + i), Element(1), l.loaded[slot]);
    });
}
