// What the phases of all kernels share. No standard or toolkit header is included: they would take longer to compile
// than the kernels.
#pragma once

// Element types that CUDA C++ does not have without a header.
struct bf16 { unsigned short bits; };
struct f16 { unsigned short bits; };

template <class A, class B> constexpr bool is_same = false;
template <class A> constexpr bool is_same<A, A> = true;

__device__ __forceinline__ float infinity() { return __uint_as_float(0x7F800000u); }

// Whole numbers at compile time.
__device__ constexpr int least(int a, int b) { return a < b ? a : b; }
__device__ constexpr int greatest(int a, int b) { return a > b ? a : b; }
__device__ constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }
__device__ constexpr int power_of_two_from(int a) {  // the least one that is not less
    int power = 1;
    while (power < a) power *= 2;
    return power;
}

// Dynamic shared memory, Launch::shared_bytes long.
extern __shared__ __align__(16) unsigned char dynamic_shared[];

// Steps of a body (docs/pdl.md). Every one is a compiler barrier: no access to memory moves across (rule 10).
__device__ __forceinline__ void wait() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
__device__ __forceinline__ void trigger() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }
__device__ __forceinline__ void fenced_trigger() {
    asm volatile("fence.acq_rel.gpu;\n\tgriddepcontrol.launch_dependents;" ::: "memory");
}
// All threads of the CTA, wherever in the code they are: roles meet here from different branches, so it is not the
// aligned form.
__device__ __forceinline__ void cta_barrier() { asm volatile("barrier.sync 0;" ::: "memory"); }

// The thread's number in its CTA, the CTA's number in the grid.
__device__ __forceinline__ int thread_in_cta() {
    return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
}
__device__ __forceinline__ int cta_in_grid() { return blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z); }

// The same, without the registers that a one-dimensional launch does not need. Kernels that reduce need whole warps.
template <class Launch> __device__ __forceinline__ int thread_of() {
    return Launch::block_x == Launch::threads ? threadIdx.x : thread_in_cta();
}
template <class Launch> constexpr int ctas_of = Launch::grid_x * Launch::grid_y * Launch::grid_z;
template <class Launch> __device__ __forceinline__ int cta_of() {
    return Launch::grid_x == ctas_of<Launch> ? blockIdx.x : cta_in_grid();
}
template <class Launch> constexpr int warps_of = Launch::threads / 32;
template <class Launch> constexpr bool has_whole_warps = Launch::threads % 32 == 0;

// Loads from global memory stay in program order: they are never the .nc kind, which moves across waits (rule 9). That
// is why they are assembly, and why no pointer is __restrict__.

// One element of any type, as its bits.
template <class T> __device__ __forceinline__ T load_global(const T* p) {
    T value;
    if constexpr (sizeof(T) == 8) {
        unsigned long long bits;
        asm volatile("ld.global.b64 %0, [%1];" : "=l"(bits) : "l"(p) : "memory");
        memcpy(&value, &bits, 8);
    } else if constexpr (sizeof(T) == 4) {
        unsigned bits;
        asm volatile("ld.global.b32 %0, [%1];" : "=r"(bits) : "l"(p) : "memory");
        memcpy(&value, &bits, 4);
    } else if constexpr (sizeof(T) == 2) {
        unsigned short bits;
        asm volatile("ld.global.b16 %0, [%1];" : "=h"(bits) : "l"(p) : "memory");
        memcpy(&value, &bits, 2);
    } else {
        unsigned bits;
        asm volatile("ld.global.u8 %0, [%1];" : "=r"(bits) : "l"(p) : "memory");
        memcpy(&value, &bits, 1);
    }
    return value;
}

// 16 bytes, which several warps of the CTA read; zeros if not wanted.
__device__ __forceinline__ uint4 load16(const void* p, bool wanted = true) {
    uint4 v;
    asm volatile(
        "{\n\t.reg .pred p;\n\tsetp.ne.u32 p, %5, 0;\n\t"
        "mov.b32 %0, 0;\n\tmov.b32 %1, 0;\n\tmov.b32 %2, 0;\n\tmov.b32 %3, 0;\n\t"
        "@p ld.global.v4.b32 {%0, %1, %2, %3}, [%4];\n\t}"
        : "=&r"(v.x), "=&r"(v.y), "=&r"(v.z), "=&r"(v.w)
        : "l"(p), "r"(static_cast<unsigned>(wanted))
        : "memory");
    return v;
}

// 16 bytes that nobody else on the SM reads (weights, KV rows): they take no room in L1. Zeros if not wanted.
__device__ __forceinline__ uint4 load16_once(const void* p, bool wanted = true) {
    uint4 v;
    asm volatile(
        "{\n\t.reg .pred p;\n\tsetp.ne.u32 p, %5, 0;\n\t"
        "mov.b32 %0, 0;\n\tmov.b32 %1, 0;\n\tmov.b32 %2, 0;\n\tmov.b32 %3, 0;\n\t"
        "@p ld.global.L1::no_allocate.v4.b32 {%0, %1, %2, %3}, [%4];\n\t}"
        : "=&r"(v.x), "=&r"(v.y), "=&r"(v.z), "=&r"(v.w)
        : "l"(p), "r"(static_cast<unsigned>(wanted))
        : "memory");
    return v;
}

// 16 bytes from global to shared memory, without a register in between. They are on their way until await_copies; then
// the thread sees its own, and after a barrier everyone's.
__device__ __forceinline__ void copy16(void* shared, const void* p) {
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(p) : "memory");
}
__device__ __forceinline__ void await_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// Numbers in f32, rounded to nearest even where they are stored in fewer bits.

__device__ __forceinline__ float widened(float x) { return x; }
__device__ __forceinline__ float widened(bf16 x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }
__device__ __forceinline__ float widened(f16 x) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(x.bits));
    return value;
}
template <class T> __device__ __forceinline__ T narrowed(float x) {
    if constexpr (sizeof(T) == 4) {
        return x;
    } else {
        T value;
        if constexpr (is_same<T, bf16>) asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(value.bits) : "f"(x));
        else asm("cvt.rn.f16.f32 %0, %1;" : "=h"(value.bits) : "f"(x));
        return value;
    }
}

// A piece of a row: what one load brings. 16 bytes if rows are multiples of that (they begin at such addresses then:
// every buffer does), else one element.
template <class T> __device__ constexpr int piece_of_row(int elements) {
    return elements * sizeof(T) % 16 == 0 ? 16 / static_cast<int>(sizeof(T)) : 1;
}

template <class T, int elements> __device__ __forceinline__ uint4 load_piece_once(const T* p, bool wanted) {
    if constexpr (elements > 1) return load16_once(p, wanted);
    uint4 piece = {0, 0, 0, 0};
    if (wanted) {
        const T element = load_global(p);
        memcpy(&piece.x, &element, sizeof(T));
    }
    return piece;
}

// The elements of a piece.
template <class T, int elements> __device__ __forceinline__ void widen(const uint4& piece, float (&x)[elements]) {
    const unsigned words[] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
    for (int i = 0; i < elements; ++i) {
        if constexpr (sizeof(T) == 4) {
            x[i] = __uint_as_float(words[i]);
        } else if constexpr (is_same<T, bf16>) {
            // The upper halves of the words of 32 bits are f32 but for the bits to clear.
            x[i] = __uint_as_float(i % 2 ? words[i / 2] & 0xFFFF0000u : words[i / 2] << 16);
        } else {
            x[i] = widened(f16{static_cast<unsigned short>(words[i / 2] >> 16 * (i % 2))});
        }
    }
}

// Consecutive f32, as many as a piece has elements; zeros if not wanted.
template <int elements>
__device__ __forceinline__ void load_floats(const float* p, float (&x)[elements], bool wanted = true) {
    if constexpr (elements % 4 == 0) {
#pragma unroll
        for (int i = 0; i < elements; i += 4) {
            const uint4 v = load16(p + i, wanted);
            x[i] = __uint_as_float(v.x);
            x[i + 1] = __uint_as_float(v.y);
            x[i + 2] = __uint_as_float(v.z);
            x[i + 3] = __uint_as_float(v.w);
        }
    } else {
#pragma unroll
        for (int i = 0; i < elements; ++i) x[i] = wanted ? load_global(p + i) : 0.0f;
    }
}

// The same number of f32 to global memory.
template <int elements> __device__ __forceinline__ void store_floats(float* p, const float (&x)[elements]) {
    if constexpr (elements % 4 == 0) {
#pragma unroll
        for (int i = 0; i < elements; i += 4) {
            *reinterpret_cast<float4*>(p + i) = make_float4(x[i], x[i + 1], x[i + 2], x[i + 3]);
        }
    } else {
#pragma unroll
        for (int i = 0; i < elements; ++i) p[i] = x[i];
    }
}

// Where share number `number` begins, if a count is dealt in consecutive shares that differ by one at most.
template <int count, int shares> __device__ __forceinline__ int start_of_share(int number) {
    if constexpr (static_cast<long long>(count) * shares < 1LL << 31) return count * number / shares;
    return static_cast<int>(static_cast<long long>(count) * number / shares);
}

// Element by element: thread t of a grid of n has elements t, t + n, ..., in slots 0, 1, ...
template <class Launch, int count>
constexpr int elements_a_thread = ceil_div(count, ctas_of<Launch> * Launch::threads);
template <class Launch, int count, class F> __device__ __forceinline__ void for_each_element(F f) {
    constexpr int slots = elements_a_thread<Launch, count>;
#pragma unroll(slots <= 16 ? slots : 1)
    for (int slot = 0; slot < slots; ++slot) {
        const int i = (slot * ctas_of<Launch> + cta_of<Launch>()) * Launch::threads + thread_of<Launch>();
        if (i < count) f(slot, i);
    }
}

// Reductions. All lanes, or all threads, take part and get the result.

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(~0u, x, distance);
    return x;
}
template <class Launch> __device__ __forceinline__ float cta_sum(float x) {
    static_assert(has_whole_warps<Launch>, "a reduction needs whole warps");
    constexpr int warps = warps_of<Launch>;
    x = warp_sum(x);
    if constexpr (warps > 1) {
        __shared__ float sums[warps];
        const int thread = thread_of<Launch>();
        if (thread % 32 == 0) sums[thread / 32] = x;
        __syncthreads();
        x = 0.0f;
#pragma unroll
        for (int warp = 0; warp < warps; ++warp) x += sums[warp];
    }
    return x;
}

// A scalar parameter: the same in every replay, or an integer in memory plus an offset, which is read where it is used.
template <class T> struct Constant {
    T value;
    __device__ __forceinline__ T operator()() const { return value; }
};
template <class T, class Stored = T> struct Loaded {
    const Stored* address;
    T offset;
    __device__ __forceinline__ T operator()() const {
        return static_cast<T>(load_global(address)) + offset;
    }
};
